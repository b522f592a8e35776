//! The engine from within, on the shipped model: in what order windows reach it, and what becomes of panics.

use std::{collections::HashMap, sync::OnceLock};

use candle_core::Device;
use futures_util::{FutureExt, future::join_all};
use proptest::prelude::*;

use super::{
    admission::Admission,
    job::ActiveJob,
    queue::{Batch, Queue},
    *,
};
use crate::{model::Bundle, tagger::TaggerConfig};

const BATCH_TOKENS: usize = 512;

fn load() -> Tagger {
    let config = TaggerConfig { batch_tokens: BATCH_TOKENS, ..TaggerConfig::default() };
    let bundle = Bundle::open(concat!(env!("CARGO_MANIFEST_DIR"), "/models/default")).unwrap();
    Tagger::load(bundle, config, &Device::Cpu).unwrap()
}

fn tagger() -> &'static Tagger {
    static TAGGER: OnceLock<Tagger> = OnceLock::new();
    TAGGER.get_or_init(load)
}

fn plan() -> Arc<Plan> {
    Arc::new(tagger().plan(&TagOptions::default()).unwrap())
}

fn ticket(tenant: &str, lane: Lane) -> Ticket {
    Ticket { tenant: Tenant::new(tenant), lane, deadline: None }
}

fn document(id: &str, sentences: usize) -> Document {
    Document { id: id.to_owned(), text: "The army met in Baghdad. ".repeat(sentences), ..Document::default() }
}

type Reply = oneshot::Receiver<Result<Answer, EngineError>>;

/// A document as it comes to the queue.
fn read(document: Document, ticket: Ticket) -> (Arc<ActiveJob>, Reply) {
    let admission = Admission::new(1 << 20, DrainRate::default());
    let permit = admission.admit(1, &ticket).now_or_never().unwrap().unwrap();
    let reading = tagger().read(&document, &plan()).unwrap();
    let (reply, answer) = oneshot::channel();
    let job = Job {
        document: Arc::new(document),
        plan: plan(),
        ticket,
        arrived: Instant::now(),
        reply,
        permit,
        span: tracing::Span::none(),
    };
    (Arc::new(ActiveJob::new(job, reading, Duration::ZERO)), answer)
}

/// Tokens of each tenant in a batch.
fn tokens(batch: &Batch) -> HashMap<String, usize> {
    let mut tokens = HashMap::new();
    for slice in &batch.slices {
        *tokens.entry(slice.job.ticket.tenant.name().to_owned()).or_default() += slice.tokens();
    }
    tokens
}

#[test]
fn tenants_share_every_batch_whatever_they_have_waiting() {
    let mut queue = Queue::new(BATCH_TOKENS);
    let mut replies = Vec::new();
    let mut push = |tenant, sentences| {
        let (job, reply) = read(document("", sentences), ticket(tenant, Lane::Bulk));
        queue.push(job);
        replies.push(reply);
    };
    (0..60).for_each(|_| push("many", 20));
    push("long", 600);
    push("few", 15);
    let first = tokens(&queue.next_batch().unwrap());
    assert!(first["few"] > 0, "who comes last is in the first batch: {first:?}");
    for _ in 0..6 {
        let shares = tokens(&queue.next_batch().unwrap());
        // Equal but for a window each.
        assert!(shares["many"].abs_diff(shares["long"]) <= 2 * 128, "{shares:?}");
    }
}

#[test]
fn in_the_smallest_batches_bulk_work_has_its_quarter_too() {
    let mut queue = Queue::new(64);
    let mut replies = Vec::new();
    for lane in [Lane::Interactive, Lane::Bulk] {
        for _ in 0..20 {
            let (job, reply) = read(document("", 60), ticket("a", lane));
            queue.push(job);
            replies.push(reply);
        }
    }
    let mut tokens = HashMap::from([(Lane::Interactive, 0), (Lane::Bulk, 0)]);
    for _ in 0..24 {
        for slice in queue.next_batch().unwrap().slices {
            *tokens.get_mut(&slice.job.ticket.lane).unwrap() += slice.tokens();
        }
    }
    let part = tokens[&Lane::Bulk] as f64 / tokens.values().sum::<usize>() as f64;
    assert!((0.08..0.3).contains(&part), "{tokens:?}");
}

#[test]
fn a_window_that_leaves_no_quarter_is_not_kept_waiting() {
    let mut queue = Queue::new(128);
    let mut replies = Vec::new();
    for (lane, sentences, documents) in [(Lane::Bulk, 4, 60), (Lane::Interactive, 60, 3)] {
        for _ in 0..documents {
            let (job, reply) = read(document("", sentences), ticket("a", lane));
            queue.push(job);
            replies.push(reply);
        }
    }
    let mut batches = HashMap::from([(Lane::Interactive, 0), (Lane::Bulk, 0)]);
    for _ in 0..8 {
        for slice in queue.next_batch().unwrap().slices {
            assert!(slice.job.ticket.lane == Lane::Bulk || slice.tokens() > 96, "{}", slice.tokens());
            *batches.get_mut(&slice.job.ticket.lane).unwrap() += 1;
        }
    }
    assert!(batches.values().all(|&batches| batches >= 3), "{batches:?}");
}

#[test]
fn a_document_has_one_slice_of_a_batch() {
    let mut queue = Queue::new(BATCH_TOKENS);
    let (jobs, _replies): (Vec<_>, Vec<_>) =
        [Lane::Interactive, Lane::Bulk].map(|lane| read(document("", 600), ticket("a", lane))).into_iter().unzip();
    jobs.into_iter().for_each(|job| queue.push(job));
    while let Some(batch) = queue.next_batch() {
        let lanes: Vec<_> = batch.slices.iter().map(|slice| slice.job.ticket.lane).collect();
        assert!(lanes.len() <= 2 && (lanes.len() < 2 || lanes[0] != lanes[1]), "{lanes:?}");
    }
}

#[test]
fn documents_of_one_tenant_have_their_turns() {
    let mut queue = Queue::new(BATCH_TOKENS);
    let (jobs, _replies): (Vec<_>, Vec<_>) =
        ["one", "two"].map(|id| read(document(id, 600), ticket("a", Lane::Interactive))).into_iter().unzip();
    jobs.into_iter().for_each(|job| queue.push(job));
    let first = || queue.next_batch().unwrap().slices[0].job.document.id.clone();
    assert_eq!(std::iter::repeat_with(first).take(4).collect::<Vec<_>>(), ["one", "two", "one", "two"]);
}

#[test]
fn work_that_nobody_waits_for_leaves_the_queue_wherever_it_stands() {
    let mut queue = Queue::new(BATCH_TOKENS);
    let (first, _kept) = read(document("first", 600), ticket("a", Lane::Bulk));
    let (second, cancelled) = read(document("second", 600), ticket("a", Lane::Bulk));
    let second_tokens = second.window_tokens(0..second.reading.windows().len());
    queue.push(first);
    queue.push(second);
    drop(cancelled);
    let batch = queue.next_batch().unwrap();
    assert_eq!(batch.unwanted.iter().map(|slice| slice.tokens()).sum::<usize>(), second_tokens);
    assert!(batch.slices.iter().all(|slice| slice.job.document.id == "first"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    /// Every window is handed out once and in order, no batch is above its budget, and each lane and tenant that waits is in it.
    #[test]
    fn no_window_is_lost_and_no_lane_starves(
        documents in prop::collection::vec((0_usize..3, any::<bool>(), 1_usize..60), 1..40),
    ) {
        let mut queue = Queue::new(BATCH_TOKENS);
        let mut replies = Vec::new();
        let mut left: HashMap<String, usize> = HashMap::new();
        for (index, &(tenant, bulk, sentences)) in documents.iter().enumerate() {
            let lane = if bulk { Lane::Bulk } else { Lane::Interactive };
            let (job, reply) = read(document(&index.to_string(), sentences), ticket(&tenant.to_string(), lane));
            left.insert(index.to_string(), job.reading.windows().len());
            replies.push(reply);
            queue.push(job);
        }
        let mut next: HashMap<String, usize> = HashMap::new();
        while let Some(batch) = queue.next_batch() {
            prop_assert!(batch.slices.iter().map(|slice| slice.tokens()).sum::<usize>() <= BATCH_TOKENS);
            let is_bulk_waiting = documents.iter().enumerate().any(|(index, document)| document.1 && left[&index.to_string()] > 0);
            let has_bulk = batch.slices.iter().any(|slice| slice.job.ticket.lane == Lane::Bulk);
            prop_assert_eq!(is_bulk_waiting, has_bulk);
            for slice in &batch.slices {
                let id = &slice.job.document.id;
                prop_assert_eq!(slice.windows.start, next.get(id).copied().unwrap_or(0));
                next.insert(id.clone(), slice.windows.end);
                *left.get_mut(id).unwrap() -= slice.windows.len();
            }
        }
        prop_assert!(left.values().all(|&windows| windows == 0));
    }
}

/// An engine behind an admission of its own.
struct Running {
    engine: Arc<Engine>,
    admission: Admission,
}

impl Running {
    fn start() -> Self {
        let (config, drain) = (EngineConfig::default(), DrainRate::default());
        let engine = Arc::new(Engine::start(load(), &drain, config).unwrap());
        Self { engine, admission: Admission::new(config.max_queued_tokens, drain) }
    }

    async fn tag(&self, document: Document, plan: Arc<Plan>, ticket: &Ticket) -> Result<Answer, EngineError> {
        let place = Place::find(&self.admission, document.bytes(), ticket).await?;
        Arc::clone(&self.engine).tag(document, plan, place).await
    }
}

#[tokio::test]
async fn a_panic_over_a_document_is_its_own_and_the_threads_go_on() {
    let engine = Running::start();
    for lane in [Lane::Interactive, Lane::Bulk] {
        for step in ["read", "encode", "finish"] {
            let bad = format!("panic in {step}");
            let documents = ["good", &bad, "good"].map(|id| document(id, 3));
            let ticket = ticket("a", lane);
            let results = join_all(documents.map(|document| engine.tag(document, plan(), &ticket))).await;
            assert!(matches!(results[1], Err(EngineError::Panicked)), "{step}: {:?}", results[1]);
            assert!(results[0].is_ok() && results[2].is_ok(), "{step}");
        }
        // Without any window for the model, a document is finished where it is read.
        let language = TagOptions { features: [crate::tagger::Feature::Language].into(), ..TagOptions::default() };
        let language = Arc::new(tagger().plan(&language).unwrap());
        let panicked = engine.tag(document("panic in finish", 1), Arc::clone(&language), &ticket("a", lane)).await;
        assert!(matches!(panicked, Err(EngineError::Panicked)), "{panicked:?}");
        assert!(engine.tag(document("good", 1), language, &ticket("a", lane)).await.is_ok());
    }
    assert_eq!(engine.admission.tokens(), 0, "every document has given its room back");
}

#[tokio::test]
async fn a_panic_between_documents_ends_no_thread() {
    let engine = Running::start();
    for lane in [Lane::Interactive, Lane::Bulk] {
        for step in ["turn", "batch"] {
            let bad = document(&format!("panic in {step}"), 3);
            let panicked = engine.tag(bad, plan(), &ticket("a", lane)).await;
            assert!(matches!(panicked, Err(EngineError::Panicked)), "{step}: {panicked:?}");
            assert!(engine.tag(document("good", 3), plan(), &ticket("a", lane)).await.is_ok(), "{step}");
        }
    }
    assert_eq!(engine.admission.tokens(), 0, "every document has given its room back");
}

#[tokio::test]
async fn advice_is_measured_before_the_first_document() {
    let engine = Running::start();
    // A batch takes some tenths of a second, of which the warm-up was one.
    let advice = engine.admission.drain().retry_after(100 * BATCH_TOKENS);
    assert!(advice > Duration::from_millis(500), "{advice:?}");
}

#[tokio::test]
async fn an_expired_document_is_said_to_be_late_wherever_it_is_found() {
    let engine = Running::start();
    for lane in [Lane::Interactive, Lane::Bulk] {
        for wait in [0, 5, 40] {
            let deadline = Some(Instant::now() + Duration::from_millis(wait));
            let late = engine.tag(document("", 5000), plan(), &Ticket { deadline, ..ticket("a", lane) }).await;
            assert!(matches!(late, Err(EngineError::DeadlineExceeded)), "{late:?}");
        }
    }
}

#[tokio::test]
async fn who_waits_for_an_answer_holds_no_engine() {
    let Running { engine, admission } = Running::start();
    let document = document("", 2000);
    let place = Place::find(&admission, document.bytes(), &ticket("a", Lane::Bulk)).await.unwrap();
    let current = Arc::downgrade(&engine);
    let mut answer = Box::pin(engine.tag(document, plan(), place));
    assert!(answer.as_mut().now_or_never().is_none());
    assert!(current.upgrade().is_none(), "it is held by who waits");
    assert!(answer.await.is_ok(), "its threads answer what they have before they end");
}
