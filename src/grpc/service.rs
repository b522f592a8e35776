//! The four calls.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use prost::Message;
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use super::{
    call::{Call, answer_bytes, document_bytes, item_path, ticket},
    limits::Allowance,
    response,
    shared::Shared,
    status::CallError,
    stream::{self as streaming, TagStream},
};
use crate::{
    engine::{Held, Lane, StageTimings},
    proto::v1::{self, tagger_service_server::TaggerService},
};

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
        let (ticket, allowance) = (ticket(&request, Lane::Interactive), Allowance::of(&request));
        let v1::TagRequest { document, options } = request.into_inner();
        let call = Call::new(options, ticket)?;
        let plan = call.plan(&engine)?;
        let missing = || CallError::Field { field: "document".to_owned(), problem: "is required".to_owned() };
        let document = document.ok_or_else(missing)?;
        allowance.take(1)?;
        let mut held = self.shared.hold(&call.ticket.tenant, document_bytes(&document), "document")?;
        let (document, path) = (document.into(), "document".to_owned());
        let place = call.admit(&self.shared.host, &document, &path).await?;
        let model = response::model_descriptor(engine.tagger().manifest());
        let (analysis, timings) = call.tag((engine, plan), document, path, place).await?;
        let response =
            v1::TagResponse { analysis: Some(analysis), model: Some(model), timings: Some(response::timings(timings)) };
        held.resize(answer_bytes(&response));
        Ok(until_sent(response, held))
    }

    async fn batch_tag(&self, request: Request<v1::BatchTagRequest>) -> Result<Response<v1::BatchTagResponse>, Status> {
        let engine = self.shared.engine()?;
        let arrived = Instant::now();
        let (ticket, allowance) = (ticket(&request, Lane::Bulk), Allowance::of(&request));
        let request = request.into_inner();
        check_batch(&request, &self.shared)?;
        let call = &Call::new(request.options, ticket)?;
        // One model for all of a batch, which therefore holds it.
        let model = &(Arc::clone(&engine), call.plan(&engine)?);
        let (host, tenant) = (&self.shared.host, &call.ticket.tenant);
        host.check_room(tenant).map_err(|source| CallError::Engine { path: "documents".to_owned(), source })?;
        allowance.take(request.documents.len())?;
        let bytes = request.documents.iter().map(document_bytes).sum();
        let mut held = self.shared.hold(tenant, bytes, "documents")?;

        let work = stream::iter(request.documents).enumerate().map(|(index, document)| {
            let mut own = held.split(document_bytes(&document));
            async move {
                let document = document.into();
                let place = call.admit(host, &document, &item_path(index)).await?;
                let (result, timings) = call.tag_item(model.clone(), document, index, place, &mut own).await?;
                Ok::<_, Status>((result, timings, own))
            }
        });
        let answers: Vec<_> = work.buffered(self.shared.max_in_flight).try_collect().await?;
        let mut timings = StageTimings { total: arrived.elapsed(), ..StageTimings::default() };
        let mut results = Vec::with_capacity(answers.len());
        for (result, item, own) in answers {
            timings.tokenize += item.tokenize;
            timings.queue += item.queue;
            timings.inference += item.inference;
            results.push(result);
            held.absorb(own);
        }
        let response = v1::BatchTagResponse {
            results,
            model: Some(response::model_descriptor(engine.tagger().manifest())),
            timings: Some(response::timings(timings)),
        };
        Ok(until_sent(response, held))
    }

    async fn stream_tag(
        &self,
        request: Request<Streaming<v1::StreamTagRequest>>,
    ) -> Result<Response<TagStream>, Status> {
        self.shared.engine()?;
        let (ticket, allowance) = (ticket(&request, Lane::Bulk), Allowance::of(&request));
        let shared = Arc::clone(&self.shared);
        Ok(Response::new(streaming::tag_stream(shared, request.into_inner(), ticket, allowance)))
    }

    async fn get_model_info(
        &self,
        _: Request<v1::GetModelInfoRequest>,
    ) -> Result<Response<v1::GetModelInfoResponse>, Status> {
        let engine = self.shared.engine()?;
        Ok(Response::new(response::model_info(&engine, &self.shared)))
    }
}

/// An answer that holds its bytes until the transport has sent it.
fn until_sent<M>(message: M, held: Held) -> Response<M> {
    let mut response = Response::new(message);
    response.extensions_mut().insert(Arc::new(held));
    response
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
