//! Who may join the queue: by tokens, over all lanes and tenants.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{
    EngineError, Lane, Tenant, Ticket,
    drain::{DrainRate, estimate},
    shares::Shares,
    turns::{Cost, Turns},
};
use crate::metrics::{self, Scarce, Unwanted};

/// Tokens of bulk work that a tenant may bring in a turn: some four articles.
const QUANTUM: usize = 1024;

/// Counts the tokens that are in the engine, by an estimate from their bytes, and lets work in.
///
/// Each lane leaves a quarter of the room to the other. Interactive work is let in or refused at once, and none of a tenant above
/// its threshold, so that a flood leaves room to others; bulk work waits, and room goes to its tenants in turn.
#[derive(Debug, Clone)]
pub(super) struct Admission(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    capacity: usize,
    drain: DrainRate,
}

#[derive(Debug)]
struct State {
    interactive: Shares,
    bulk: Shares,
    /// Documents that have their room.
    admitted: usize,
    waiting: Turns<Waiter>,
    /// Of those waiting, how many nobody waits for any more, at most; cleared away when they are half.
    gone: usize,
}

/// A document of bulk work that is to be told when there is room.
#[derive(Debug)]
struct Waiter {
    tenant: Tenant,
    tokens: usize,
    grant: oneshot::Sender<Permit>,
}

impl Cost for Waiter {
    fn cost(&self) -> usize {
        self.tokens
    }
}

/// Room taken by a document; given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    admission: Admission,
    tenant: Tenant,
    lane: Lane,
    tokens: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        metrics::queue_given_back(self.tokens);
        let mut state = self.admission.0.state.lock();
        state.admitted -= 1;
        state.lane(self.lane).give_back(&self.tenant, self.tokens);
        drop(state);
        self.admission.let_in();
    }
}

/// What a tenant has in the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantLoad {
    /// Who.
    pub tenant: Tenant,
    /// Tokens of interactive work let in and not answered.
    pub interactive_tokens: usize,
    /// Tokens of bulk work let in and not answered.
    pub bulk_tokens: usize,
    /// Documents of bulk work that wait for room.
    pub waiting_documents: usize,
    /// Bytes of requests and answers that its calls hold.
    pub held_bytes: usize,
}

impl Admission {
    pub fn new(max_queued_tokens: usize, drain: DrainRate) -> Self {
        let capacity = max_queued_tokens.max(8);
        metrics::queue_capacity(capacity);
        let state = State {
            interactive: Shares::default(),
            bulk: Shares::default(),
            admitted: 0,
            waiting: Turns::new(QUANTUM),
            gone: 0,
        };
        Self(Arc::new(Inner { state: Mutex::new(state), capacity, drain }))
    }

    /// Most tokens at a time.
    pub fn capacity(&self) -> usize {
        self.0.capacity
    }

    /// How fast the tokens go.
    pub fn drain(&self) -> &DrainRate {
        &self.0.drain
    }

    /// Takes room for a document of so many bytes.
    pub async fn admit(&self, bytes: usize, ticket: &Ticket) -> Result<Permit, EngineError> {
        match ticket.lane {
            Lane::Interactive => self.admit_now(&ticket.tenant, estimate(bytes)),
            Lane::Bulk => self.wait(ticket, estimate(bytes)).await,
        }
    }

    /// A document larger than an eighth of the room, which is half of what bulk work leaves free, still has to find its place.
    fn place(&self, tokens: usize) -> usize {
        tokens.min(self.0.capacity / 8)
    }

    fn admit_now(&self, tenant: &Tenant, tokens: usize) -> Result<Permit, EngineError> {
        let tokens = self.place(tokens);
        let mut state = self.0.state.lock();
        let free = state.free(Lane::Interactive, self.0.capacity);
        if !state.interactive.try_take(tenant, tokens, free) {
            metrics::refused(Scarce::Queue, tenant.label());
            let retry_after = self.0.drain.retry_after(state.interactive.in_the_way(tenant));
            return Err(EngineError::QueueFull { retry_after });
        }
        state.admitted += 1;
        drop(state);
        Ok(self.permit(tenant.clone(), Lane::Interactive, tokens))
    }

    async fn wait(&self, ticket: &Ticket, tokens: usize) -> Result<Permit, EngineError> {
        let (grant, granted) = oneshot::channel();
        let waiter = Waiter { tenant: ticket.tenant.clone(), tokens: self.place(tokens), grant };
        self.0.state.lock().waiting.push(&ticket.tenant, waiter);
        self.let_in();
        let mut waiting = Waiting { admission: self, ticket, tokens, granted, is_over: false };
        // The sender is never dropped while somebody waits.
        let permit = (&mut waiting.granted).await.map_err(|_| EngineError::Stopped);
        waiting.is_over = true;
        permit
    }

    /// Lets bulk work in, as far as there is room.
    fn let_in(&self) {
        while let Some(waiter) = self.next_with_room() {
            let permit = self.permit(waiter.tenant, Lane::Bulk, waiter.tokens);
            // Outside of the lock: if the caller has just gone, the permit is dropped here.
            let _ = waiter.grant.send(permit);
        }
    }

    fn next_with_room(&self) -> Option<Waiter> {
        let mut state = self.0.state.lock();
        let state = &mut *state;
        loop {
            let free = state.free(Lane::Bulk, self.0.capacity);
            let next = state.waiting.peek()?;
            if next.grant.is_closed() {
                state.waiting.pop();
                continue;
            }
            let tokens = next.tokens;
            if tokens > free {
                return None;
            }
            let waiter = state.waiting.next()?;
            state.bulk.take(&waiter.tenant, tokens);
            state.admitted += 1;
            return Some(waiter);
        }
    }

    fn permit(&self, tenant: Tenant, lane: Lane, tokens: usize) -> Permit {
        metrics::queue_taken(tokens);
        Permit { admission: self.clone(), tenant, lane, tokens }
    }

    /// Refuses if a tenant's bulk work waits for room already.
    pub fn check_room(&self, tenant: &Tenant) -> Result<(), EngineError> {
        let state = self.0.state.lock();
        let mut waiting = state.waiting.tenants().filter(|(waiting, _)| *waiting == tenant);
        if waiting.any(|(_, waiters)| waiters.iter().any(|waiter| !waiter.grant.is_closed())) {
            metrics::refused(Scarce::Queue, tenant.label());
            let retry_after = self.0.drain.retry_after(state.used() / 2);
            return Err(EngineError::QueueFull { retry_after });
        }
        Ok(())
    }

    /// Tokens let in and not answered.
    pub fn tokens(&self) -> usize {
        self.0.state.lock().used()
    }

    /// Documents that have their room, and documents that wait for it.
    pub fn documents(&self) -> (usize, usize) {
        let state = self.0.state.lock();
        (state.admitted, state.waiting.len())
    }

    /// What each tenant has in the engine that has anything.
    pub fn by_tenant(&self) -> Vec<TenantLoad> {
        let state = self.0.state.lock();
        let waiting = state.waiting.tenants().map(|(tenant, waiters)| (tenant, waiters.len()));
        let mut loads: Vec<TenantLoad> = Vec::new();
        for (tenant, tokens) in state.interactive.iter() {
            TenantLoad::of(&mut loads, tenant).interactive_tokens = tokens;
        }
        for (tenant, tokens) in state.bulk.iter() {
            TenantLoad::of(&mut loads, tenant).bulk_tokens = tokens;
        }
        for (tenant, documents) in waiting {
            TenantLoad::of(&mut loads, tenant).waiting_documents = documents;
        }
        loads
    }
}

impl TenantLoad {
    /// The entry of a tenant.
    pub(super) fn of<'a>(loads: &'a mut Vec<Self>, tenant: &Tenant) -> &'a mut Self {
        let index = loads.iter().position(|load| load.tenant == *tenant).unwrap_or_else(|| {
            loads.push(Self {
                tenant: tenant.clone(),
                interactive_tokens: 0,
                bulk_tokens: 0,
                waiting_documents: 0,
                held_bytes: 0,
            });
            loads.len() - 1
        });
        &mut loads[index]
    }
}

impl State {
    fn used(&self) -> usize {
        self.interactive.total() + self.bulk.total()
    }

    fn lane(&mut self, lane: Lane) -> &mut Shares {
        match lane {
            Lane::Interactive => &mut self.interactive,
            Lane::Bulk => &mut self.bulk,
        }
    }

    /// Room that a lane may still take.
    fn free(&self, lane: Lane, capacity: usize) -> usize {
        let own = match lane {
            Lane::Interactive => self.interactive.total(),
            Lane::Bulk => self.bulk.total(),
        };
        let most = capacity - capacity / 4;
        most.saturating_sub(own).min(capacity.saturating_sub(self.used()))
    }
}

/// A caller that waits for room.
struct Waiting<'a> {
    admission: &'a Admission,
    ticket: &'a Ticket,
    tokens: usize,
    granted: oneshot::Receiver<Permit>,
    is_over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        metrics::tokens_saved(Unwanted::by(self.ticket.deadline), self.tokens);
        self.granted.close();
        let mut state = self.admission.0.state.lock();
        state.gone += 1;
        if state.gone * 2 > state.waiting.len() {
            state.gone = 0;
            drop(state.waiting.extract(|waiter| waiter.grant.is_closed()));
        }
        drop(state);
        // It may have stood in front.
        self.admission.let_in();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::Pin,
        task::{Context, Poll, Waker},
        time::Duration,
    };

    use proptest::prelude::*;

    use super::*;

    type Admitting = Pin<Box<dyn Future<Output = Result<Permit, EngineError>>>>;

    fn admission(capacity: usize) -> Admission {
        Admission::new(capacity, DrainRate::default())
    }

    /// Asks for so many tokens.
    fn admit(admission: &Admission, tenant: &str, lane: Lane, tokens: usize) -> Admitting {
        let (admission, ticket) = (admission.clone(), Ticket { tenant: Tenant::new(tenant), lane, deadline: None });
        Box::pin(async move { admission.admit(tokens * 4, &ticket).await })
    }

    fn poll(admitting: &mut Admitting) -> Poll<Result<Permit, EngineError>> {
        admitting.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    /// What comes of it at once; `None` if it has to wait.
    fn try_admit(
        admission: &Admission,
        tenant: &str,
        lane: Lane,
        tokens: usize,
    ) -> Option<Result<Permit, EngineError>> {
        match poll(&mut admit(admission, tenant, lane, tokens)) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }

    /// As many permits as a tenant gets.
    fn flood(admission: &Admission, tenant: &str, lane: Lane, tokens: usize) -> Vec<Permit> {
        std::iter::from_fn(|| try_admit(admission, tenant, lane, tokens)?.ok()).collect()
    }

    #[test]
    fn each_lane_leaves_a_quarter_to_the_other() {
        let admission = admission(800);
        let bulk = flood(&admission, "a", Lane::Bulk, 10);
        assert_eq!(bulk.len(), 60);
        let interactive = ["a", "b", "c", "d"].map(|name| flood(&admission, name, Lane::Interactive, 1));
        assert!(interactive.iter().all(|permits| !permits.is_empty()));
        drop((bulk, interactive));
        let names = (0..40).map(|index| index.to_string());
        let interactive: Vec<_> = names.flat_map(|name| flood(&admission, &name, Lane::Interactive, 1)).collect();
        assert!((500..=600).contains(&interactive.len()), "{}", interactive.len());
        assert_eq!(flood(&admission, "a", Lane::Bulk, 10).len(), 20);
    }

    #[test]
    fn a_flood_of_single_documents_leaves_room_to_newcomers() {
        let admission = admission(9000);
        let flooding = flood(&admission, "a", Lane::Interactive, 100);
        assert!(matches!(try_admit(&admission, "a", Lane::Interactive, 100), Some(Err(EngineError::QueueFull { .. }))));
        assert!(flooding.len() >= 40, "alone it may use most of the room, not {}", flooding.len());
        let newcomer = flood(&admission, "b", Lane::Interactive, 100);
        assert!(newcomer.len() >= 10, "a newcomer found room for {} only", newcomer.len());
    }

    #[test]
    fn a_lone_document_of_bulk_work_is_let_in_before_the_hundreds_of_another_tenant() {
        let admission = admission(4 * QUANTUM);
        let mut inside = flood(&admission, "a", Lane::Bulk, QUANTUM / 2);
        let mut crowd: Vec<_> = (0..300).map(|_| admit(&admission, "a", Lane::Bulk, QUANTUM / 2)).collect();
        assert!(crowd.iter_mut().all(|one| poll(one).is_pending()));
        let mut lone = admit(&admission, "b", Lane::Bulk, QUANTUM / 2);
        assert!(poll(&mut lone).is_pending());
        // A turn of the crowd is two documents; the third that finds room is the lone one.
        for _ in 0..3 {
            drop(inside.pop());
        }
        let let_in: Vec<_> = crowd.iter_mut().map(poll).filter(Poll::is_ready).collect();
        assert!(poll(&mut lone).is_ready());
        assert_eq!(let_in.len(), 2);
    }

    #[test]
    fn a_caller_that_goes_away_gives_its_place_to_the_next() {
        let admission = admission(800);
        let inside = flood(&admission, "a", Lane::Bulk, 100);
        let mut first = admit(&admission, "a", Lane::Bulk, 100);
        let mut second = admit(&admission, "a", Lane::Bulk, 1);
        assert!(poll(&mut first).is_pending() && poll(&mut second).is_pending());
        assert!(admission.check_room(&Tenant::new("a")).is_err());
        assert!(admission.check_room(&Tenant::new("b")).is_ok(), "others' work is not in its way");
        drop(first);
        assert_eq!(admission.documents(), (inside.len(), 1));
        drop(inside);
        assert!(poll(&mut second).is_ready());
        assert!(admission.check_room(&Tenant::new("a")).is_ok());
    }

    #[test]
    fn advice_grows_with_what_is_in_the_way() {
        let admission = admission(8000);
        admission.drain().note_batch(1000, Duration::from_secs(4), 1);
        let _permits = [(); 2].map(|()| flood(&admission, "a", Lane::Interactive, 1000));
        let Some(Err(EngineError::QueueFull { retry_after })) = try_admit(&admission, "a", Lane::Interactive, 1000)
        else {
            panic!("there must be no room");
        };
        // Half of its 4,000 tokens, at 4 ms each.
        assert_eq!(retry_after, Duration::from_secs(8));
    }

    #[test]
    fn a_huge_document_finds_its_place_beside_bulk_work() {
        let admission = admission(800);
        let _bulk = flood(&admission, "a", Lane::Bulk, 1);
        assert!(try_admit(&admission, "a", Lane::Interactive, 1 << 20).unwrap().is_ok());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Ask(usize, bool, usize),
        Leave(usize),
        GoAway(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (0_usize..4, any::<bool>(), 1_usize..150).prop_map(|(who, bulk, tokens)| Step::Ask(who, bulk, tokens)),
            2 => any::<usize>().prop_map(Step::Leave),
            1 => any::<usize>().prop_map(Step::GoAway),
        ];
        prop::collection::vec(step, 0..300)
    }

    proptest! {
        /// Whatever comes and goes in whatever order, the bound holds, no token is lost, and all who wait get in.
        #[test]
        fn no_token_is_lost_and_nobody_starves(steps in steps()) {
            let admission = admission(800);
            let (mut inside, mut waiting) = (Vec::new(), Vec::<Admitting>::new());
            for step in steps {
                match step {
                    Step::Ask(who, bulk, tokens) => {
                        let lane = if bulk { Lane::Bulk } else { Lane::Interactive };
                        let mut asking = admit(&admission, &who.to_string(), lane, tokens);
                        match poll(&mut asking) {
                            Poll::Ready(result) => inside.extend(result.ok()),
                            Poll::Pending => waiting.push(asking),
                        }
                    }
                    Step::Leave(index) if !inside.is_empty() => drop(inside.swap_remove(index % inside.len())),
                    Step::GoAway(index) if !waiting.is_empty() => drop(waiting.swap_remove(index % waiting.len())),
                    _ => {}
                }
                waiting.retain_mut(|one| match poll(one) {
                    Poll::Ready(permit) => {
                        inside.push(permit.unwrap());
                        false
                    }
                    Poll::Pending => true,
                });
                prop_assert!(admission.tokens() <= 800);
                prop_assert_eq!(admission.tokens(), inside.iter().map(|permit: &Permit| permit.tokens).sum::<usize>());
                prop_assert_eq!(admission.documents().0, inside.len());
            }
            while !waiting.is_empty() {
                prop_assert!(!inside.is_empty(), "{} wait though there is room", waiting.len());
                drop(inside.remove(0));
                waiting.retain_mut(|one| match poll(one) {
                    Poll::Ready(permit) => {
                        inside.push(permit.unwrap());
                        false
                    }
                    Poll::Pending => true,
                });
            }
            drop(inside);
            prop_assert_eq!((admission.tokens(), admission.documents()), (0, (0, 0)));
            prop_assert_eq!(admission.by_tenant(), []);
        }
    }
}
