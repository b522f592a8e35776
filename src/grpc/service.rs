//! The four calls.

use std::sync::{Arc, OnceLock};

use futures_util::{StreamExt, TryStreamExt, stream};
use prost::Message;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{
    deadline::deadline,
    request::Options,
    response,
    status::{CallError, to_rpc_status},
    stream::{self as streaming, TagStream},
};
use crate::{
    config::ServeSettings,
    engine::{Engine, Lane, StageTimings},
    proto::v1::{self, tagger_service_server::TaggerService},
    tagger::Plan,
    text::OffsetUnit,
};

/// What the calls share.
#[derive(Debug)]
pub struct Shared {
    /// Set once the model is loaded and warm.
    pub engine: OnceLock<Engine>,
    /// Cancelled when the server shuts down.
    pub draining: CancellationToken,
    /// Most documents in a batch.
    pub max_batch_documents: usize,
    /// Most bytes in a request.
    pub max_request_bytes: usize,
    /// Most documents of a batch or stream worked on at a time.
    pub max_in_flight: usize,
}

impl Shared {
    /// Nothing loaded yet.
    pub fn new(settings: &ServeSettings) -> Self {
        Self {
            engine: OnceLock::new(),
            draining: CancellationToken::new(),
            max_batch_documents: settings.max_batch_documents,
            max_request_bytes: settings.max_request_bytes,
            max_in_flight: settings.max_in_flight.get(),
        }
    }

    /// The engine, for work that is new.
    pub fn engine(&self) -> Result<&Engine, CallError> {
        if self.draining.is_cancelled() {
            return Err(CallError::Draining);
        }
        self.engine.get().ok_or(CallError::Loading)
    }
}

/// How the documents of one call are to be tagged.
#[derive(Debug, Clone)]
pub struct Call {
    /// What to compute.
    pub plan: Arc<Plan>,
    /// The unit of offsets in the answer.
    pub unit: OffsetUnit,
    /// When the answer must be on its way.
    pub deadline: Option<Instant>,
    /// How documents wait.
    pub lane: Lane,
}

impl Call {
    /// Checks a call's options against the model.
    pub fn new(
        engine: &Engine,
        options: Option<v1::TagOptions>,
        deadline: Option<Instant>,
        lane: Lane,
    ) -> Result<Self, CallError> {
        let Options { tag, unit } = Options::try_from(options)?;
        Ok(Self { plan: Arc::new(engine.tagger().plan(&tag)?), unit, deadline, lane })
    }

    /// Tags one document; `path` is its place in the request.
    pub async fn tag(
        &self,
        engine: &Engine,
        document: v1::Document,
        path: String,
    ) -> Result<(v1::Analysis, StageTimings), CallError> {
        let answer = engine.tag(document.into(), Arc::clone(&self.plan), self.deadline, self.lane).await;
        let answer = answer.map_err(|source| CallError::Engine { path, source })?;
        let manifest = engine.tagger().manifest();
        Ok((response::analysis(answer.analysis, &answer.document, self.unit, manifest), answer.timings))
    }

    /// Tags one document of many: its own faults are in its result.
    pub async fn tag_item(
        &self,
        engine: &Engine,
        document: v1::Document,
        index: usize,
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
        Ok((v1::DocumentResult { id, index: index as u64, outcome: Some(outcome), model: None }, timings))
    }
}

/// The service.
#[derive(Debug, Clone)]
pub struct Tagging {
    shared: Arc<Shared>,
}

impl Tagging {
    /// A service over what the calls share.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

#[tonic::async_trait]
impl TaggerService for Tagging {
    type StreamTagStream = TagStream;

    async fn tag(&self, request: Request<v1::TagRequest>) -> Result<Response<v1::TagResponse>, Status> {
        let engine = self.shared.engine()?;
        let deadline = deadline(&request);
        let v1::TagRequest { document, options } = request.into_inner();
        let call = Call::new(engine, options, deadline, Lane::Interactive)?;
        let missing = || CallError::Field { field: "document".to_owned(), problem: "is required".to_owned() };
        let document = document.ok_or_else(missing)?;
        let (analysis, timings) = call.tag(engine, document, "document".to_owned()).await?;
        Ok(Response::new(v1::TagResponse {
            analysis: Some(analysis),
            model: Some(response::model_descriptor(engine.tagger().manifest())),
            timings: Some(response::timings(timings)),
        }))
    }

    async fn batch_tag(&self, request: Request<v1::BatchTagRequest>) -> Result<Response<v1::BatchTagResponse>, Status> {
        let engine = self.shared.engine()?;
        let arrived = Instant::now();
        let deadline = deadline(&request);
        let request = request.into_inner();
        check_batch(&request, &self.shared)?;
        let call = Call::new(engine, request.options, deadline, Lane::Bulk)?;
        engine.check_room().map_err(|source| CallError::Engine { path: "documents".to_owned(), source })?;

        let call = &call;
        let items = stream::iter(request.documents).enumerate();
        let work = items.map(|(index, document)| call.tag_item(engine, document, index));
        let answers: Vec<_> = work.buffered(self.shared.max_in_flight).try_collect().await?;
        let mut timings = StageTimings { total: arrived.elapsed(), ..StageTimings::default() };
        for (_, item) in &answers {
            timings.tokenize += item.tokenize;
            timings.queue += item.queue;
            timings.inference += item.inference;
        }
        Ok(Response::new(v1::BatchTagResponse {
            results: answers.into_iter().map(|(result, _)| result).collect(),
            model: Some(response::model_descriptor(engine.tagger().manifest())),
            timings: Some(response::timings(timings)),
        }))
    }

    async fn stream_tag(
        &self,
        request: Request<Streaming<v1::StreamTagRequest>>,
    ) -> Result<Response<TagStream>, Status> {
        self.shared.engine()?;
        let deadline = deadline(&request);
        Ok(Response::new(streaming::tag_stream(Arc::clone(&self.shared), request.into_inner(), deadline)))
    }

    async fn get_model_info(
        &self,
        _: Request<v1::GetModelInfoRequest>,
    ) -> Result<Response<v1::GetModelInfoResponse>, Status> {
        let engine = self.shared.engine()?;
        Ok(Response::new(response::model_info(engine, &self.shared)))
    }
}

/// Checks what concerns a batch as a whole.
fn check_batch(request: &v1::BatchTagRequest, shared: &Shared) -> Result<(), CallError> {
    let (actual, limit) = (request.documents.len(), shared.max_batch_documents);
    if actual == 0 {
        return Err(CallError::Field { field: "documents".to_owned(), problem: "is empty".to_owned() });
    }
    if actual > limit {
        return Err(CallError::BatchTooLarge { limit, actual });
    }
    let (actual, limit) = (request.encoded_len(), shared.max_request_bytes);
    if actual > limit {
        return Err(CallError::RequestTooLarge { limit, actual });
    }
    Ok(())
}
