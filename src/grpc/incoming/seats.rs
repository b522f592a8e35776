//! How many connections there may be, in all and from one address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use parking_lot::Mutex;

use crate::metrics::security as metrics;

/// The seats of a server.
#[derive(Debug, Clone)]
pub struct Seats(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: usize,
    /// 0 for no limit.
    most_per_ip: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    by_ip: HashMap<IpAddr, usize>,
}

/// A seat; given back when dropped.
#[derive(Debug)]
pub struct Seat {
    seats: Seats,
    ip: IpAddr,
}

impl Seats {
    /// So many in all, and so many for one address; 0 for no such limit.
    pub fn new(most: usize, most_per_ip: usize) -> Self {
        Self(Arc::new(Inner { most, most_per_ip, taken: Mutex::default() }))
    }

    /// A seat, if there is one left.
    pub fn take(&self, ip: IpAddr) -> Option<Seat> {
        let Inner { most, most_per_ip, taken } = &*self.0;
        let ip = network(ip);
        let mut taken = taken.lock();
        if taken.count >= *most {
            metrics::connection_refused("max_connections");
            return None;
        }
        if *most_per_ip > 0 {
            let own = taken.by_ip.entry(ip).or_default();
            if *own >= *most_per_ip {
                metrics::connection_refused("max_connections_per_ip");
                return None;
            }
            *own += 1;
        }
        taken.count += 1;
        metrics::connections_open(1.0);
        Some(Seat { seats: self.clone(), ip })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.0.taken.lock();
        taken.count -= 1;
        if let Some(own) = taken.by_ip.get_mut(&self.ip) {
            *own -= 1;
            if *own == 0 {
                taken.by_ip.remove(&self.ip);
            }
        }
        metrics::connections_open(-1.0);
    }
}

/// What counts as one address: of IPv6 the first 64 bits, since whoever has one address has all of those behind them.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_seat_is_free_again_when_given_back() {
        let seats = Seats::new(2, 0);
        let (one, _two) = (seats.take(ip("10.0.0.1")).unwrap(), seats.take(ip("10.0.0.1")).unwrap());
        assert!(seats.take(ip("10.0.0.2")).is_none());
        drop(one);
        assert!(seats.take(ip("10.0.0.2")).is_some());
    }

    #[test]
    fn one_address_does_not_take_all() {
        let seats = Seats::new(10, 1);
        let one = seats.take(ip("10.0.0.1")).unwrap();
        assert!(seats.take(ip("10.0.0.1")).is_none() && seats.take(ip("::ffff:10.0.0.1")).is_none());
        let _other = seats.take(ip("10.0.0.2")).unwrap();
        let _six = seats.take(ip("2001:db8::1")).unwrap();
        assert!(seats.take(ip("2001:db8::2")).is_none());
        let _next = seats.take(ip("2001:db8:0:1::1")).unwrap();
        drop(one);
        assert!(seats.take(ip("10.0.0.1")).is_some());
        assert_eq!(seats.0.taken.lock().by_ip.len(), 3);
    }
}
