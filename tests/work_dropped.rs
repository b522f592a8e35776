//! Work that nobody waits for any more is not computed: not the windows that are left of a long document, not what is still unread, not
//! what waits for room. What was saved is counted, to the token where it is known.

mod support;

use std::{collections::HashMap, time::Duration};

use rasid::{
    proto::v1,
    tagger::{TagOptions, WindowRequest},
    text::Document,
};
use support::{process::Process, tagger, text};
use tonic::{Code, Request};

const SAVED_CANCELLED: &str = "rasid_tokens_saved_total{reason=\"cancelled\"}";
const SAVED_EXPIRED: &str = "rasid_tokens_saved_total{reason=\"expired\"}";

/// Some 400 windows.
fn long() -> String {
    "The ministers met again in Baghdad on Monday, and the army was asked to leave.\n".repeat(2500)
}

fn tag(body: &str) -> v1::TagRequest {
    v1::TagRequest { document: Some(text(body)), options: None }
}

/// Tokens that the model has to read for a text.
fn tokens(body: &str) -> f64 {
    let plan = tagger().plan(&TagOptions::default()).unwrap();
    let reading = tagger().read(&Document { text: body.to_owned(), ..Document::default() }, &plan).unwrap();
    let tokens: usize = reading.requests(&plan).map(|request: WindowRequest<'_>| request.tokens()).sum();
    tokens as f64
}

fn of(figures: &HashMap<String, f64>, name: &str) -> f64 {
    figures.get(name).copied().unwrap_or(0.0)
}

/// The figures when some of them are as they should be.
async fn wait_until(
    server: &Process,
    what: &str,
    is_so: impl Fn(&HashMap<String, f64>) -> bool,
) -> HashMap<String, f64> {
    let mut figures = HashMap::new();
    for _ in 0..2400 {
        figures = server.figures().unwrap();
        if is_so(&figures) {
            return figures;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{what} never came: {figures:?}");
}

/// A window at a time.
const ONE_BY_ONE: [&str; 2] = ["--batch-tokens", "64"];

#[tokio::test(flavor = "multi_thread")]
async fn the_windows_left_of_a_cancelled_document_are_not_computed() {
    let server = Process::start(&ONE_BY_ONE).await;
    let body = long();
    let total = tokens(&body);
    let mut client = server.client().await;
    let call = tokio::spawn(async move { client.tag(tag(&body)).await.map(drop) });
    wait_until(&server, "the first windows", |figures| of(figures, "rasid_windows_total") >= 3.0).await;
    call.abort();

    let figures = wait_until(&server, "what was saved", |figures| of(figures, SAVED_CANCELLED) > 0.0).await;
    let computed = of(&figures, "rasid_tokens_total");
    assert_eq!(computed + of(&figures, SAVED_CANCELLED), total, "{figures:?}");
    assert!(computed < total / 2.0, "{computed} of {total} tokens were computed");

    // Nothing of it is left to be computed either.
    let short = "Rain in Basra.";
    server.client().await.tag(tag(short)).await.unwrap();
    let figures = server.wait_for("rasid_queue_tokens", 0.0).await;
    assert_eq!(of(&figures, "rasid_tokens_total"), computed + tokens(short));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_windows_left_of_an_expired_document_are_not_computed() {
    let server = Process::start(&ONE_BY_ONE).await;
    let body = long();
    let total = tokens(&body);
    let mut request = Request::new(tag(&body));
    // Enough to be read, far from enough to be computed.
    request.set_timeout(Duration::from_secs(4));
    let status = server.client().await.tag(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    let figures = wait_until(&server, "what was saved", |figures| of(figures, SAVED_EXPIRED) > 0.0).await;
    assert_eq!(of(&figures, "rasid_tokens_total") + of(&figures, SAVED_EXPIRED), total, "{figures:?}");
    assert_eq!(of(&figures, "rasid_documents_total{outcome=\"expired\",key=\"anonymous\"}"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_given_up_leaves_nothing_behind() {
    // Room for a few of its documents: of the others some wait for room, most are not yet looked at.
    let server = Process::start(&["--batch-tokens", "64", "--max-queued-tokens", "2048"]).await;
    let documents = vec![text(&long()[..4000]); 200];
    let mut client = server.client().await;
    let call = tokio::spawn(async move { client.batch_tag(v1::BatchTagRequest { documents, options: None }).await });
    wait_until(&server, "the first windows", |figures| of(figures, "rasid_windows_total") >= 3.0).await;
    call.abort();

    let outcomes = |figures: &HashMap<String, f64>| -> f64 {
        figures.iter().filter(|(name, _)| name.starts_with("rasid_documents_total{")).map(|(_, count)| count).sum()
    };
    let received = "rasid_documents_received_total{key=\"anonymous\"}";
    let figures = wait_until(&server, "the end of every document", |figures| {
        of(figures, "rasid_queue_tokens") == 0.0 && outcomes(figures) == of(figures, received)
    })
    .await;
    assert!(of(&figures, received) <= 70.0, "no more are begun than are worked on at a time: {figures:?}");
    assert!(of(&figures, "rasid_documents_total{outcome=\"cancelled\",key=\"anonymous\"}") > 50.0, "{figures:?}");
    assert!(of(&figures, SAVED_CANCELLED) > 50.0 * 500.0, "{figures:?}");
    assert_eq!(of(&figures, "rasid_held_bytes"), 0.0);
}
