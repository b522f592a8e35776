//! Clients that do not take what is ready for them. What was kept for such a client is dropped after a while; should it come back, it is
//! told so. The transport cannot do it: while it waits for the client it asks for nothing.
//!
//! Goes around [`super::hold`], which hands out large answers in small pieces: one of them is all that the transport keeps.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep_until},
};
use tonic::Status;
use tower_layer::Layer;
use tower_service::Service;

use super::status::CallError;
use crate::metrics::security as metrics;

/// Puts [`Stall`] around a service.
#[derive(Debug, Clone, Copy)]
pub struct StallLayer {
    /// How long a client may not take what is ready.
    pub limit: Duration,
}

impl<S> Layer<S> for StallLayer {
    type Service = Stall<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Stall { inner, limit: self.limit }
    }
}

/// A service whose answers do not wait for ever.
#[derive(Debug, Clone)]
pub struct Stall<S> {
    inner: S,
    limit: Duration,
}

impl<S, B, R> Service<Request<B>> for Stall<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    R: Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<StallBody<R>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let limit = self.limit;
        let response = self.inner.call(request);
        Box::pin(async move { Ok(response.await?.map(|body| StallBody::new(body, limit))) })
    }
}

/// An answer's messages.
pub struct StallBody<B> {
    answer: Arc<Mutex<Answer<B>>>,
    limit: Duration,
    watch: Option<AbortHandle>,
}

/// What is still to be sent.
struct Answer<B> {
    /// Gone when it was dropped.
    body: Option<Pin<Box<B>>>,
    /// Since when the client takes nothing; not set while it waits for us.
    since: Option<Instant>,
    has_ended: bool,
}

impl<B: Body<Data = Bytes> + Send + 'static> StallBody<B> {
    fn new(body: B, limit: Duration) -> Self {
        let answer = Answer { body: Some(Box::pin(body)), since: None, has_ended: false };
        Self { answer: Arc::new(Mutex::new(answer)), limit, watch: None }
    }
}

impl<B: Body<Data = Bytes>> Answer<B> {
    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
        limit: Duration,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let Some(body) = &mut self.body else {
            self.has_ended = true;
            let mut trailers = HeaderMap::new();
            // Our own details fit into a header.
            let _ = Status::from(CallError::Stalled { limit }).add_header(&mut trailers);
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        };
        // While we wait for the service the client is not to blame.
        self.since = None;
        let frame = ready!(body.as_mut().poll_frame(context));
        if matches!(&frame, Some(Ok(frame)) if frame.is_data()) {
            self.since = Some(Instant::now());
        }
        Poll::Ready(frame)
    }
}

/// Drops an answer that is not taken.
async fn watch<B>(answer: Arc<Mutex<Answer<B>>>, limit: Duration) {
    let next = |answer: &mut Answer<B>| match answer.since {
        None => Ok(Instant::now() + limit),
        Some(since) if since + limit > Instant::now() => Ok(since + limit),
        Some(_) => Err(answer.body.take()),
    };
    loop {
        // What is dropped may do much when it is: not under the lock.
        let next = next(&mut answer.lock());
        match next {
            Ok(at) => sleep_until(at).await,
            Err(_) => break,
        }
    }
    metrics::call_given_up("stalled");
}

impl<B: Body<Data = Bytes> + Send + 'static> Body for StallBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let frame = this.answer.lock().poll_frame(context, this.limit);
        if this.watch.is_none() && matches!(&frame, Poll::Ready(Some(Ok(frame))) if frame.is_data()) {
            this.watch = Some(tokio::spawn(watch(Arc::clone(&this.answer), this.limit)).abort_handle());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        let answer = self.answer.lock();
        answer.has_ended || answer.body.as_ref().is_some_and(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.answer.lock().body.as_ref().map(|body| body.size_hint()).unwrap_or_default()
    }
}

impl<B> Drop for StallBody<B> {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
    }
}

impl<B: Default + Body<Data = Bytes> + Send + 'static> Default for StallBody<B> {
    fn default() -> Self {
        // Nothing in it, so that nothing waits.
        Self::new(B::default(), Duration::ZERO)
    }
}
