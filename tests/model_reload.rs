//! A new model takes over while the service runs: no call fails for it, every document is answered once and names the model that answered
//! it, a bad model changes nothing, and of the old one nothing is left once its last call has ended.

mod support;

use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use candle_core::Device;
use futures_util::{StreamExt, stream};
use rasid::{
    engine::{EngineConfig, Lane, ModelHost, ModelLoader, ReloadError, Tenant, Ticket},
    model::{Bundle, ModelError},
    proto::v1::{
        self, document_result::Outcome, stream_tag_request::Message, tagger_service_client::TaggerServiceClient,
    },
    tagger::{TagOptions, Tagger, TaggerConfig},
};
use support::{
    models::{Current, version},
    process::Process,
    text,
};
use tempfile::TempDir;
use tonic::{Code, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

fn reloads(result: &str) -> String {
    format!("rasid_reloads_total{{what=\"model\",result=\"{result}\"}}")
}

/// Threads of a process that encode.
fn encoders(process: u32) -> usize {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| name.starts_with("rasid-encode")).count()
}

async fn wait_for_encoders(process: u32, count: usize) {
    for _ in 0..1200 {
        if encoders(process) == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{} threads encode, not {count}", encoders(process));
}

fn tag(body: &str) -> v1::TagRequest {
    v1::TagRequest { document: Some(text(body)), options: None }
}

fn message(message: Message) -> v1::StreamTagRequest {
    v1::StreamTagRequest { message: Some(message) }
}

/// A stream of one document after the other, as they are asked for.
struct Conversation {
    documents: tokio::sync::mpsc::Sender<v1::StreamTagRequest>,
    results: tonic::Streaming<v1::StreamTagResponse>,
}

impl Conversation {
    async fn open(server: &Process, required_model_version: &str) -> Self {
        let (documents, messages) = tokio::sync::mpsc::channel(1);
        let options =
            v1::TagOptions { required_model_version: required_model_version.to_owned(), ..v1::TagOptions::default() };
        let config = v1::StreamConfig { options: Some(options), ..v1::StreamConfig::default() };
        documents.send(message(Message::Config(config))).await.unwrap();
        let messages = stream::unfold(messages, |mut messages| async { Some((messages.recv().await?, messages)) });
        Self { documents, results: server.client().await.stream_tag(messages).await.unwrap().into_inner() }
    }

    /// The version of the model that answers the next document.
    async fn next(&mut self) -> Result<String, tonic::Status> {
        self.documents.send(message(Message::Document(text("Rain in Basra.")))).await.unwrap();
        let result = self.results.next().await.unwrap()?.result.unwrap();
        assert!(matches!(result.outcome, Some(Outcome::Analysis(_))), "{result:?}");
        Ok(result.model.unwrap().version)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_model_takes_over_and_the_old_one_goes() {
    let (old, new) = (version("1.0.0"), version("2.0.0"));
    let current = Current::new(old.path());
    let server = Process::start(&["--model", &current.path()]).await;
    let channel = Channel::from_shared(format!("http://{}", server.address)).unwrap().connect().await.unwrap();
    let watch = HealthCheckRequest { service: "rasid.v1.TaggerService".to_owned() };
    let mut states = HealthClient::new(channel).watch(watch).await.unwrap().into_inner();
    // Metrics name the model a little before health does.
    while states.next().await.unwrap().unwrap().status() != ServingStatus::Serving {}
    let mut any = Conversation::open(&server, "").await;
    let mut particular = Conversation::open(&server, "1.0.0").await;
    assert_eq!((any.next().await.unwrap(), particular.next().await.unwrap()), ("1.0.0".to_owned(), "1.0.0".to_owned()));

    // The same again: there is nothing to load.
    server.signal("HUP");
    server.wait_for(&reloads("unchanged"), 1.0).await;
    current.set(new.path());
    server.signal("HUP");
    let figures = server.wait_for(&reloads("replaced"), 1.0).await;
    let info = |version: &str| {
        let mut of = figures.iter().filter(|(name, _)| name.contains(&format!("version=\"{version}\"")));
        of.next().map(|(_, &value)| value)
    };
    assert_eq!((info("1.0.0"), info("2.0.0")), (Some(0.0), Some(1.0)));
    assert!(figures["rasid_model_loaded_timestamp_seconds"] > 1.7e9);

    // Two streams are open since before, and yet nothing of the old model is left.
    wait_for_encoders(server.id(), 1).await;
    let mut client = server.client().await;
    assert_eq!(client.tag(tag("Rain.")).await.unwrap().into_inner().model.unwrap().version, "2.0.0");
    let described = client.get_model_info(v1::GetModelInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(described.model.unwrap().version, "2.0.0");
    assert_eq!(any.next().await.unwrap(), "2.0.0");
    assert_eq!(particular.next().await.unwrap_err().code(), Code::FailedPrecondition);
    server.wait_for("rasid_documents_total{outcome=\"failed\",key=\"anonymous\"}", 1.0).await;
    // Health has said nothing all the while: it serves.
    assert!(tokio::time::timeout(Duration::from_millis(100), states.next()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_model_changes_nothing() {
    let (good, bad) = (version("1.0.0"), version("2.0.0"));
    let weights = bad.path().join("encoder.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&weights, bytes).unwrap();
    let current = Current::new(good.path());
    let server = Process::start(&["--model", &current.path()]).await;
    for (times, target) in [(1.0, bad.path()), (2.0, Path::new("/no/such/folder"))] {
        current.set(target);
        server.signal("HUP");
        server.wait_for(&reloads("failed"), times).await;
        let answer = server.client().await.tag(tag("Rain.")).await.unwrap().into_inner();
        assert_eq!(answer.model.unwrap().version, "1.0.0");
    }
    let log = server.log();
    assert!(log.contains("the model cannot be loaded") && log.contains("encoder.safetensors"), "{log}");
    wait_for_encoders(server.id(), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_every_document_is_answered_once_by_the_model_it_names() {
    let models = [version("1.0.0"), version("2.0.0")];
    let current = Current::new(models[0].path());
    let server = Process::start(&["--model", &current.path()]).await;
    let stopped = Arc::new(AtomicBool::new(false));
    let versions = Arc::new(Mutex::new(Vec::new()));

    let single = (0..4).map(|_| {
        let (client, stopped, versions) = (server.client(), Arc::clone(&stopped), Arc::clone(&versions));
        async move {
            let mut client = client.await;
            let mut answered = 0;
            while !stopped.load(Ordering::Relaxed) {
                let answer = client.tag(tag("The army met in Baghdad.")).await.unwrap().into_inner();
                versions.lock().unwrap().push(answer.model.unwrap().version);
                answered += 1;
            }
            answered
        }
    });
    let batches = async {
        let (mut client, mut answered) = (server.client().await, 0);
        while !stopped.load(Ordering::Relaxed) {
            let documents = (0..30).map(|index| v1::Document { id: format!("{index}"), ..text("Rain in Basra.") });
            let request = v1::BatchTagRequest { documents: documents.collect(), options: None };
            let answer = client.batch_tag(request).await.unwrap().into_inner();
            versions.lock().unwrap().push(answer.model.unwrap().version);
            // One model answers for all of a batch, each document once and in its place.
            let ids: Vec<_> = answer.results.iter().map(|result| result.id.clone()).collect();
            assert_eq!(ids, (0..30).map(|index| format!("{index}")).collect::<Vec<_>>());
            assert!(answer.results.iter().all(|result| matches!(result.outcome, Some(Outcome::Analysis(_)))));
            answered += 30;
        }
        answered
    };
    let stream = async {
        let sent = stream::repeat_with(|| message(Message::Document(text("Sun in Basra."))));
        let (flag, mut client) = (Arc::clone(&stopped), server.client().await);
        let sent = sent.take_while(move |_| std::future::ready(!flag.load(Ordering::Relaxed)));
        let mut results = client.stream_tag(sent).await.unwrap().into_inner();
        let (mut answered, mut seen) = (0, Vec::new());
        while let Some(result) = results.next().await {
            let result = result.unwrap().result.unwrap();
            assert_eq!(result.index, answered);
            assert!(matches!(result.outcome, Some(Outcome::Analysis(_))));
            seen.push(result.model.unwrap().version);
            answered += 1;
        }
        seen.dedup();
        (answered as usize, seen)
    };
    let reloads = async {
        for (times, model) in [(1.0, 1), (2.0, 0), (3.0, 1)] {
            current.set(models[model].path());
            server.signal("HUP");
            server.wait_for(&reloads("replaced"), times).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        stopped.store(true, Ordering::Relaxed);
    };
    let (single, batches, (streamed, seen), ()) =
        futures_util::future::join4(futures_util::future::join_all(single), batches, stream, reloads).await;
    let answered = single.iter().sum::<usize>() + batches + streamed;
    let versions = std::mem::take(&mut *versions.lock().unwrap());
    assert!(versions.iter().all(|version| version == "1.0.0" || version == "2.0.0"));
    assert!(["1.0.0", "2.0.0"].iter().all(|version| versions.iter().any(|seen| seen == version)));
    assert!(seen.len() >= 4, "the stream has seen every model: {seen:?}");

    let figures = server.wait_for("rasid_queue_tokens", 0.0).await;
    let books =
        |name: &str| figures.iter().filter(|(key, _)| key.starts_with(name)).map(|(_, count)| count).sum::<f64>();
    assert_eq!(books("rasid_documents_received_total"), answered as f64);
    assert_eq!(figures["rasid_documents_total{outcome=\"answered\",key=\"anonymous\"}"], answered as f64);
    assert_eq!(books("rasid_documents_total"), answered as f64);
    wait_for_encoders(server.id(), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_no_results_keeps_neither_the_old_model_nor_room_in_the_queue() {
    const DOCUMENTS: usize = 30;
    let (old, new) = (version("1.0.0"), version("2.0.0"));
    let current = Current::new(old.path());
    // Room for some ten of the documents at a time.
    let server = Process::start(&["--model", &current.path(), "--max-queued-tokens", "4096"]).await;
    let endpoint = Channel::from_shared(format!("http://{}", server.address)).unwrap().initial_stream_window_size(1024);
    let mut client = TaggerServiceClient::new(endpoint.connect().await.unwrap());
    // The first takes long, so that no result comes before all documents have been read.
    let body = |index| "The army met in Baghdad. ".repeat(if index == 0 { 800 } else { 40 });
    let documents = (0..DOCUMENTS).map(move |index| message(Message::Document(text(&body(index)))));
    let sent = stream::iter(documents).chain(stream::pending());
    let mut results = client.stream_tag(sent).await.unwrap().into_inner();

    // What it takes in is answered all the same, and waits in memory that is counted.
    server.wait_for("rasid_documents_total{outcome=\"answered\",key=\"anonymous\"}", DOCUMENTS as f64).await;
    assert_eq!(server.wait_for("rasid_queue_tokens", 0.0).await["rasid_queue_tokens"], 0.0);
    current.set(new.path());
    server.signal("HUP");
    server.wait_for(&reloads("replaced"), 1.0).await;
    wait_for_encoders(server.id(), 1).await;
    for index in 0..DOCUMENTS {
        let result = results.next().await.unwrap().unwrap().result.unwrap();
        assert_eq!((result.index, result.model.unwrap().version.as_str()), (index as u64, "1.0.0"));
    }
}

/// Loads one bundle after the other; says when it begins, and goes on when it is told to.
struct Told {
    bundles: Mutex<Vec<TempDir>>,
    begun: mpsc::Sender<()>,
    go: Mutex<mpsc::Receiver<()>>,
}

impl ModelLoader for Told {
    fn open(&self) -> Result<Bundle, ModelError> {
        let bundle = self.bundles.lock().unwrap().remove(0);
        Bundle::open(bundle.keep())
    }

    fn tagger(&self, bundle: Bundle) -> Result<Tagger, ModelError> {
        self.begun.send(()).unwrap();
        self.go.lock().unwrap().recv().unwrap();
        Tagger::load(bundle, TaggerConfig::default(), &Device::Cpu)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_reload_is_refused_and_accepted_work_is_finished_by_the_old_model() {
    let ((go, told), (begun, begins)) = (mpsc::channel(), mpsc::channel());
    let bundles = Mutex::new(vec![version("1.0.0"), version("2.0.0")]);
    let host = Arc::new(ModelHost::new(Told { bundles, begun, go: Mutex::new(told) }, EngineConfig::default()));
    assert!(host.current().is_none());
    let reload = |host: &Arc<ModelHost>| {
        let host = Arc::clone(host);
        tokio::task::spawn_blocking(move || host.reload())
    };
    go.send(()).unwrap();
    assert_eq!(reload(&host).await.unwrap().unwrap().result(), "loaded");

    let engine = host.current().unwrap();
    let plan = Arc::new(engine.tagger().plan(&TagOptions::default()).unwrap());
    let ticket = Ticket { tenant: Tenant::anonymous(), lane: Lane::Bulk, deadline: None };
    let document = rasid::text::Document { text: "The army met in Baghdad. ".repeat(400), ..Default::default() };
    let place = host.admit(document.bytes(), &ticket).await.unwrap();
    let accepted = tokio::spawn(Arc::clone(&engine).tag(document, plan, place));
    let running = reload(&host);
    tokio::task::spawn_blocking(move || (begins.recv(), begins.recv())).await.unwrap().1.unwrap();
    assert!(matches!(reload(&host).await.unwrap(), Err(ReloadError::Busy)));
    assert_eq!(host.current().unwrap().tagger().manifest().version, "1.0.0");
    go.send(()).unwrap();
    let replaced = running.await.unwrap().unwrap();
    assert_eq!((replaced.old.unwrap().version.as_str(), replaced.new.version.as_str()), ("1.0.0", "2.0.0"));
    assert_eq!(host.current().unwrap().tagger().manifest().version, "2.0.0");

    assert_eq!(accepted.await.unwrap().unwrap().analysis.coverage.windows, engine_windows(&engine));
    let old = Arc::downgrade(&engine);
    drop(engine);
    assert!(old.upgrade().is_none(), "nobody holds the old engine any more");
    assert_eq!(host.load().queued_tokens, 0);
}

/// Windows of the document above.
fn engine_windows(engine: &rasid::engine::Engine) -> usize {
    let document = rasid::text::Document { text: "The army met in Baghdad. ".repeat(400), ..Default::default() };
    let plan = engine.tagger().plan(&TagOptions::default()).unwrap();
    engine.tagger().read(&document, &plan).unwrap().windows().len()
}
