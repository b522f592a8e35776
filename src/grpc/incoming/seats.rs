//! How many connections there may be, in all and from one address, and who gives way when there are no seats left: whoever has sat there
//! longest without a call that was admitted. So nobody without a key can keep the others out by sitting still.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

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
    /// Without those that have been told to go.
    count: usize,
    by_ip: HashMap<IpAddr, usize>,
    /// Connections that can be told to go, from the oldest to the newest.
    settled: BTreeMap<u64, Arc<Standing>>,
    next: u64,
}

/// How a connection stands.
#[derive(Debug, Default)]
pub struct Standing {
    /// Cancelled when it must end.
    pub close: CancellationToken,
    /// Whether a call on it was ever admitted.
    pub admitted: AtomicBool,
    /// Whether it was told to go, and is not counted any more.
    displaced: AtomicBool,
}

/// A seat; given back when dropped.
#[derive(Debug)]
pub struct Seat {
    seats: Seats,
    ip: IpAddr,
    number: u64,
    standing: Arc<Standing>,
}

impl Seats {
    /// So many in all, and so many for one address; 0 for no such limit.
    pub fn new(most: usize, most_per_ip: usize) -> Self {
        Self(Arc::new(Inner { most, most_per_ip, taken: Mutex::default() }))
    }

    /// A seat, if there is one left or somebody gives way.
    pub fn take(&self, ip: IpAddr) -> Option<Seat> {
        let Inner { most, most_per_ip, taken } = &*self.0;
        let ip = network(ip);
        let mut taken = taken.lock();
        if *most_per_ip > 0 && taken.by_ip.get(&ip).is_some_and(|own| own >= most_per_ip) {
            metrics::connection_refused("max_connections_per_ip");
            return None;
        }
        if taken.count >= *most && !taken.displace() {
            metrics::connection_refused("max_connections");
            return None;
        }
        if *most_per_ip > 0 {
            *taken.by_ip.entry(ip).or_default() += 1;
        }
        taken.count += 1;
        taken.next += 1;
        metrics::connections_open(1.0);
        Some(Seat { seats: self.clone(), ip, number: taken.next, standing: Arc::default() })
    }
}

impl Taken {
    /// Has the oldest connection go on which no call was ever admitted; whether there is one.
    fn displace(&mut self) -> bool {
        let oldest = self.settled.iter().find(|(_, standing)| !standing.admitted.load(Ordering::Relaxed));
        let Some(number) = oldest.map(|(&number, _)| number) else { return false };
        if let Some(standing) = self.settled.remove(&number) {
            standing.displaced.store(true, Ordering::Relaxed);
            standing.close.cancel();
            self.count -= 1;
            metrics::connection_closed("displaced");
        }
        true
    }
}

impl Seat {
    /// The connection has said what it is, and can be told to go from now on.
    pub fn settle(&self) -> Arc<Standing> {
        self.seats.0.taken.lock().settled.insert(self.number, Arc::clone(&self.standing));
        Arc::clone(&self.standing)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.0.taken.lock();
        taken.settled.remove(&self.number);
        if !self.standing.displaced.load(Ordering::Relaxed) {
            taken.count -= 1;
        }
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
    fn who_never_had_a_call_admitted_gives_way() {
        let seats = Seats::new(2, 0);
        let (one, two) = (seats.take(ip("10.0.0.1")).unwrap(), seats.take(ip("10.0.0.1")).unwrap());
        let (first, second) = (one.settle(), two.settle());
        first.admitted.store(true, Ordering::Relaxed);
        let three = seats.take(ip("10.0.0.2")).unwrap();
        assert!(second.close.is_cancelled() && !first.close.is_cancelled());
        // The third has not said what it is, the first stays.
        assert!(seats.take(ip("10.0.0.2")).is_none());
        drop(two);
        assert!(seats.take(ip("10.0.0.2")).is_none());
        drop((one, three));
        let _four = seats.take(ip("10.0.0.2")).unwrap();
        let _five = seats.take(ip("10.0.0.2")).unwrap();
        assert!(seats.take(ip("10.0.0.2")).is_none());
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
