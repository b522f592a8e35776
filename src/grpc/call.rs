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
    engine::{Engine, Held, Lane, StageTimings, Tenant, Ticket},
    proto::v1,
    tagger::Plan,
    text::OffsetUnit,
};

/// What a document takes beside its bytes: its place in lists, its task.
const DOCUMENT_OVERHEAD: usize = 1 << 10;

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

/// How the documents of one call are to be tagged.
#[derive(Debug, Clone)]
pub struct Call {
    /// What to compute.
    pub plan: Arc<Plan>,
    /// The unit of offsets in the answer.
    pub unit: OffsetUnit,
    /// Who calls, how its documents wait, and until when.
    pub ticket: Ticket,
}

/// What all documents of a call bring along. The tenant is the one that authentication has noted, if there is any.
pub fn ticket<T>(request: &Request<T>, lane: Lane) -> Ticket {
    let tenant = request.extensions().get::<Tenant>().cloned().unwrap_or_default();
    note_key(tenant.name());
    Ticket { tenant, lane, deadline: deadline(request) }
}

impl Call {
    /// Checks a call's options against the model.
    pub fn new(engine: &Engine, options: Option<v1::TagOptions>, ticket: Ticket) -> Result<Self, CallError> {
        let Options { tag, unit } = Options::try_from(options)?;
        Ok(Self { plan: Arc::new(engine.tagger().plan(&tag)?), unit, ticket })
    }

    /// Tags one document; `path` is its place in the request.
    pub async fn tag(
        &self,
        engine: &Engine,
        document: v1::Document,
        path: String,
    ) -> Result<(v1::Analysis, StageTimings), CallError> {
        let answer = engine.tag(document.into(), Arc::clone(&self.plan), &self.ticket).await;
        note_document(answer.as_ref().ok().map(|answer| answer.analysis.coverage.analyzed_tokens));
        let answer = answer.map_err(|source| CallError::Engine { path, source })?;
        let manifest = engine.tagger().manifest();
        Ok((response::analysis(answer.analysis, &answer.document, self.unit, manifest), answer.timings))
    }

    /// Tags one document of many: its own faults are in its result. The result is held in the document's place.
    pub async fn tag_item(
        &self,
        engine: &Engine,
        document: v1::Document,
        index: usize,
        held: &mut Held,
    ) -> Result<(v1::DocumentResult, StageTimings), Status> {
        let id = document.id.clone();
        let (outcome, timings) = match self.tag(engine, document, format!("documents[{index}]")).await {
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
