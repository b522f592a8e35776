//! Whose turn it is: deficit round robin over tenants (Shreedhar and Varghese 1995).

use std::{collections::VecDeque, mem};

use super::Tenant;

/// What a tenant's turn is paid with.
pub(super) trait Cost {
    /// Of the next part that is handed out whole; at least 1.
    fn cost(&self) -> usize;
}

/// Waiting items of all tenants. Each tenant in turn may spend a quantum, whatever its items cost and however many it has; what it
/// does not spend it keeps as long as something of its own waits.
#[derive(Debug)]
pub(super) struct Turns<T> {
    /// The one in front has the turn; none is empty.
    ring: VecDeque<Turn<T>>,
    quantum: usize,
    len: usize,
}

#[derive(Debug)]
struct Turn<T> {
    tenant: Tenant,
    items: VecDeque<T>,
    credit: usize,
}

impl<T: Cost> Turns<T> {
    /// Nothing waits yet. A tenant may spend `quantum` a turn.
    pub fn new(quantum: usize) -> Self {
        Self { ring: VecDeque::new(), quantum, len: 0 }
    }

    /// How many items wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The items of each tenant that has any.
    pub fn tenants(&self) -> impl Iterator<Item = (&Tenant, &VecDeque<T>)> {
        self.ring.iter().map(|turn| (&turn.tenant, &turn.items))
    }

    /// Appends an item. Looks through the tenants that have some; there are no more of them than the configuration names.
    pub fn push(&mut self, tenant: &Tenant, item: T) {
        self.len += 1;
        if let Some(turn) = self.ring.iter_mut().find(|turn| turn.tenant == *tenant) {
            turn.items.push_back(item);
            return;
        }
        let credit = if self.ring.is_empty() { self.quantum } else { 0 };
        self.ring.push_back(Turn { tenant: tenant.clone(), items: [item].into(), credit });
    }

    /// The item whose turn it is, and which its tenant can pay for.
    pub fn peek(&mut self) -> Option<&mut T> {
        loop {
            let turn = self.ring.front()?;
            if turn.credit >= turn.items.front()?.cost() {
                break;
            }
            self.ring.rotate_left(1);
            self.begin();
        }
        self.ring.front_mut()?.items.front_mut()
    }

    /// Pays for a part of the item that [`Self::peek`] gave.
    pub fn pay(&mut self, cost: usize) {
        if let Some(turn) = self.ring.front_mut() {
            turn.credit = turn.credit.saturating_sub(cost);
        }
    }

    /// Takes the item that [`Self::peek`] gave.
    pub fn pop(&mut self) -> Option<T> {
        let turn = self.ring.front_mut()?;
        let item = turn.items.pop_front()?;
        self.len -= 1;
        if turn.items.is_empty() {
            self.ring.pop_front();
            self.begin();
        }
        Some(item)
    }

    /// Pays for the next item whole and takes it.
    pub fn next(&mut self) -> Option<T> {
        let cost = self.peek()?.cost();
        self.pay(cost);
        self.pop()
    }

    /// Sends the first item of each tenant to the end of its own, if so wished.
    pub fn rotate(&mut self, mut to_back: impl FnMut(&mut T) -> bool) {
        for turn in &mut self.ring {
            if turn.items.front_mut().is_some_and(&mut to_back) {
                turn.items.rotate_left(1);
            }
        }
    }

    /// Takes out all items that `remove` says, in no particular order.
    pub fn extract(&mut self, mut remove: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut removed = Vec::new();
        let had_turn = self.ring.front().map(|turn| turn.tenant.clone());
        for turn in &mut self.ring {
            // Looked at first: most often nothing is to be moved.
            if turn.items.iter().any(&mut remove) {
                let (out, kept) = mem::take(&mut turn.items).into_iter().partition(&mut remove);
                turn.items = kept;
                removed.extend::<VecDeque<T>>(out);
            }
        }
        self.len -= removed.len();
        self.ring.retain(|turn| !turn.items.is_empty());
        if self.ring.front().map(|turn| &turn.tenant) != had_turn.as_ref() {
            self.begin();
        }
        removed
    }

    /// The turn of the tenant in front begins.
    fn begin(&mut self) {
        if let Some(turn) = self.ring.front_mut() {
            turn.credit += self.quantum;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Who it is of, which one, and what is still to be paid for it.
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Item(usize, usize, usize);

    impl Cost for Item {
        fn cost(&self) -> usize {
            self.2
        }
    }

    fn tenant(index: usize) -> Tenant {
        Tenant::new(index.to_string())
    }

    #[test]
    fn a_tenant_with_a_thousand_items_leaves_the_others_their_turns() {
        let mut turns = Turns::new(100);
        (0..1000).for_each(|index| turns.push(&tenant(0), Item(0, index, 50)));
        (0..3).for_each(|index| turns.push(&tenant(1), Item(1, index, 100)));
        let order: Vec<usize> = std::iter::from_fn(|| turns.next()).take(9).map(|item| item.0).collect();
        assert_eq!(order, [0, 0, 1, 0, 0, 1, 0, 0, 1]);
    }

    #[test]
    fn a_large_item_waits_until_its_tenant_can_pay_for_it() {
        let mut turns = Turns::new(10);
        turns.push(&tenant(0), Item(0, 0, 35));
        (0..5).for_each(|index| turns.push(&tenant(1), Item(1, index, 10)));
        let order: Vec<usize> = std::iter::from_fn(|| turns.next()).map(|item| item.0).collect();
        assert_eq!(order, [1, 1, 1, 0, 1, 1]);
    }

    #[test]
    fn the_next_tenant_has_its_turn_when_one_has_nothing_left() {
        let mut turns = Turns::new(10);
        for index in 0..3 {
            turns.push(&tenant(index), Item(index, 0, 10));
        }
        assert_eq!(turns.next(), Some(Item(0, 0, 10)));
        assert_eq!(turns.extract(|item| item.0 == 1), [Item(1, 0, 10)]);
        // In front, it begins at once: a new one must not overtake it.
        turns.push(&tenant(3), Item(3, 0, 10));
        assert_eq!(turns.next(), Some(Item(2, 0, 10)));
        assert_eq!(turns.next(), Some(Item(3, 0, 10)));
        assert_eq!((turns.len(), turns.is_empty()), (0, true));
    }

    proptest! {
        /// Nothing is lost, each tenant's items stay in order, and as long as two tenants both wait they have spent the same, but for
        /// a quantum and their largest item.
        #[test]
        fn shares_are_even_and_nothing_is_lost(
            costs in prop::collection::vec((0_usize..4, 1_usize..300), 1..200),
            quantum in 1_usize..200,
        ) {
            let mut turns = Turns::new(quantum);
            let mut left: HashMap<usize, Vec<Item>> = HashMap::new();
            for (index, &(owner, cost)) in costs.iter().enumerate() {
                turns.push(&tenant(owner), Item(owner, index, cost));
                left.entry(owner).or_default().push(Item(owner, index, cost));
            }
            let largest = costs.iter().map(|&(_, cost)| cost).max().unwrap();
            let mut spent: HashMap<usize, usize> = HashMap::new();
            while let Some(item) = turns.next() {
                prop_assert_eq!(&left.get_mut(&item.0).unwrap().remove(0), &item);
                *spent.entry(item.0).or_default() += item.2;
                let waiting = || left.iter().filter(|(_, items)| !items.is_empty()).map(|(owner, _)| owner);
                for (a, b) in waiting().flat_map(|a| waiting().map(move |b| (a, b))) {
                    let spent = |owner| spent.get(owner).copied().unwrap_or(0);
                    prop_assert!(spent(a) <= spent(b) + 2 * quantum + largest, "{a} {b} {spent:?}", spent = (spent(a), spent(b)));
                }
            }
            prop_assert!(left.values().all(Vec::is_empty));
            prop_assert!(turns.is_empty());
        }
    }
}
