//! How much of something scarce a tenant may hold: dynamic thresholds (Choudhury and Hahne 1998).

use std::collections::HashMap;

use super::Tenant;

/// A tenant may hold this many times what is left free. So with one tenant two thirds are used at the most, with two of them four
/// fifths, and whoever comes new always finds something.
const ALPHA: usize = 2;

/// What each tenant holds.
#[derive(Debug, Default)]
pub(super) struct Shares {
    held: HashMap<Tenant, usize>,
    total: usize,
}

impl Shares {
    /// What all hold.
    pub fn total(&self) -> usize {
        self.total
    }

    /// What one holds.
    pub fn of(&self, tenant: &Tenant) -> usize {
        self.held.get(tenant).copied().unwrap_or(0)
    }

    /// What each holds that holds anything.
    pub fn iter(&self) -> impl Iterator<Item = (&Tenant, usize)> {
        self.held.iter().map(|(tenant, &amount)| (tenant, amount))
    }

    /// Takes an amount of what is `free`, unless the tenant would then be above its threshold.
    #[must_use]
    pub fn try_take(&mut self, tenant: &Tenant, amount: usize, free: usize) -> bool {
        let left = free.checked_sub(amount);
        let fits = left.is_some_and(|left| self.of(tenant) + amount <= left.saturating_mul(ALPHA));
        if fits {
            self.take(tenant, amount);
        }
        fits
    }

    /// Takes an amount, whatever is free.
    pub fn take(&mut self, tenant: &Tenant, amount: usize) {
        self.total += amount;
        match self.held.get_mut(tenant) {
            Some(held) => *held += amount,
            None if amount > 0 => {
                self.held.insert(tenant.clone(), amount);
            }
            None => {}
        }
    }

    /// Gives back what was taken.
    pub fn give_back(&mut self, tenant: &Tenant, amount: usize) {
        self.total = self.total.saturating_sub(amount);
        if let Some(held) = self.held.get_mut(tenant) {
            *held = held.saturating_sub(amount);
            if *held == 0 {
                self.held.remove(tenant);
            }
        }
    }

    /// How much must go before a refused tenant should ask again: half of what is in its way. That is what it holds itself, as often
    /// as there are others who get as much done in the same time.
    pub fn in_the_way(&self, tenant: &Tenant) -> usize {
        let own = self.of(tenant).saturating_mul(self.held.len()).min(self.total);
        if own == 0 { self.total / 2 } else { own / 2 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CAPACITY: usize = 900;

    fn flood(shares: &mut Shares, tenant: &Tenant, amount: usize) -> usize {
        let mut taken = 0;
        while shares.try_take(tenant, amount, CAPACITY - shares.total()) {
            taken += amount;
        }
        taken
    }

    #[test]
    fn a_flood_leaves_room_to_newcomers() {
        let mut shares = Shares::default();
        let tenants = ["a", "b", "c"].map(Tenant::new);
        let taken = tenants.each_ref().map(|tenant| flood(&mut shares, tenant, 1));
        assert_eq!(taken, [600, 200, 66]);
        // What one gives back is the others' to take: in the end all have the same.
        for _ in 0..1000 {
            for tenant in &tenants {
                let held = shares.of(tenant);
                shares.give_back(tenant, held.min(10));
                flood(&mut shares, tenant, 1);
            }
        }
        let held = tenants.each_ref().map(|tenant| shares.of(tenant));
        assert!(held.iter().all(|held| (240..=270).contains(held)), "{held:?}");
    }

    #[test]
    fn advice_is_about_what_stands_in_the_way() {
        let mut shares = Shares::default();
        let [a, b, c] = ["a", "b", "c"].map(Tenant::new);
        shares.take(&a, 600);
        assert_eq!(shares.in_the_way(&a), 300);
        shares.take(&b, 200);
        assert_eq!((shares.in_the_way(&a), shares.in_the_way(&b), shares.in_the_way(&c)), (400, 200, 400));
    }

    proptest! {
        #[test]
        fn books_balance(steps in prop::collection::vec((0_usize..3, 1_usize..400), 0..200)) {
            let tenants = ["a", "b", "c"].map(Tenant::new);
            let mut shares = Shares::default();
            let mut taken = Vec::new();
            for (index, amount) in steps {
                if shares.try_take(&tenants[index], amount, CAPACITY - shares.total()) {
                    taken.push((index, amount));
                } else if let Some((index, amount)) = taken.pop() {
                    shares.give_back(&tenants[index], amount);
                }
                prop_assert!(shares.total() < CAPACITY);
                prop_assert_eq!(shares.total(), taken.iter().map(|(_, amount)| amount).sum::<usize>());
            }
            for (index, amount) in taken {
                shares.give_back(&tenants[index], amount);
            }
            prop_assert_eq!((shares.total(), shares.iter().count()), (0, 0));
        }
    }
}
