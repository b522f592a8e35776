//! One call: its options, its deadline, and how each of its documents is tagged.

use std::sync::Arc;

use prost::Message;
use tonic::{Request, Status};

use super::{
    deadline::deadline,
    observe::{note_document, note_key},
    request::Options,
    response,
    status::{CallError, to_rpc_status},
};
use crate::{
    engine::{Engine, Held, Lane, ModelHost, Place, StageTimings, Tenant, Ticket},
    proto::v1,
    tagger::{Plan, TagOptions},
    text::{Document, OffsetUnit},
};

/// What a document takes beside its bytes: its place in lists, its task, and what its answer, which takes its place, will probably take.
const DOCUMENT_OVERHEAD: usize = 8 << 10;

/// An answer takes so many times its encoded length: names and numbers are short on the wire, and for a moment both forms exist.
const ANSWER_FACTOR: usize = 4;

/// Bytes that a document holds until it is answered.
pub fn document_bytes(document: &v1::Document) -> usize {
    document.encoded_len() + DOCUMENT_OVERHEAD
}

/// Bytes that an answer holds until it is sent.
pub fn answer_bytes(answer: &impl Message) -> usize {
    answer.encoded_len() * ANSWER_FACTOR
}

/// The place of a document among those of its call.
pub fn item_path(index: usize) -> String {
    format!("documents[{index}]")
}

/// How the documents of one call are to be tagged, whichever model does it.
#[derive(Debug)]
pub struct Call {
    options: TagOptions,
    /// The unit of offsets in the answer.
    unit: OffsetUnit,
    /// Who calls, how its documents wait, and until when.
    pub ticket: Ticket,
}

/// The model that answers a document, and what it is to compute.
pub type Model = (Arc<Engine>, Arc<Plan>);

/// What all documents of a call bring along. The tenant is the one that authentication has noted, if there is any.
pub fn ticket<T>(request: &Request<T>, lane: Lane) -> Ticket {
    let tenant = request.extensions().get::<Tenant>().cloned().unwrap_or_default();
    note_key(tenant.name());
    Ticket { tenant, lane, deadline: deadline(request) }
}

impl Call {
    /// A call with these options.
    pub fn new(options: Option<v1::TagOptions>, ticket: Ticket) -> Result<Self, CallError> {
        let Options { tag: options, unit } = Options::try_from(options)?;
        Ok(Self { options, unit, ticket })
    }

    /// Checks the options against a model.
    pub fn plan(&self, engine: &Engine) -> Result<Arc<Plan>, CallError> {
        Ok(Arc::new(engine.tagger().plan(&self.options)?))
    }

    /// Finds a document its place in the engine; `path` is its place in the request.
    pub async fn admit(&self, host: &ModelHost, document: &Document, path: &str) -> Result<Place, CallError> {
        host.admit(document.bytes(), &self.ticket).await.map_err(|source| {
            note_document(None);
            CallError::Engine { path: path.to_owned(), source }
        })
    }

    /// Tags one document that has its place. The model is not held while it waits.
    pub async fn tag(
        &self,
        (engine, plan): Model,
        document: Document,
        path: String,
        place: Place,
    ) -> Result<(v1::Analysis, StageTimings), CallError> {
        let manifest = Arc::clone(engine.tagger().manifest());
        let answer = engine.tag(document, plan, place).await;
        note_document(answer.as_ref().ok().map(|answer| answer.analysis.coverage.analyzed_tokens));
        let answer = answer.map_err(|source| CallError::Engine { path, source })?;
        Ok((response::analysis(answer.analysis, &answer.document, self.unit, &manifest), answer.timings))
    }

    /// Tags one document of many: its own faults are in its result. The result is held in the document's place.
    pub async fn tag_item(
        &self,
        model: Model,
        document: Document,
        index: usize,
        place: Place,
        held: &mut Held,
    ) -> Result<(v1::DocumentResult, StageTimings), Status> {
        let id = document.id.clone();
        let (outcome, timings) = match self.tag(model, document, item_path(index), place).await {
            Ok((analysis, timings)) => (v1::document_result::Outcome::Analysis(analysis), timings),
            Err(error) if error.is_documents_own() => {
                let status = Status::from(&error);
                (v1::document_result::Outcome::Error(to_rpc_status(&status)), StageTimings::default())
            }
            Err(error) => return Err(error.into()),
        };
        let result = v1::DocumentResult { id, index: index as u64, outcome: Some(outcome), model: None };
        held.resize(answer_bytes(&result));
        Ok((result, timings))
    }
}
