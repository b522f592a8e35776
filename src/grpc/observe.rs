//! Counts and times every call, whatever it ends with: as a layer, it sees what never reaches the service.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tonic::{Code, Status};
use tower_layer::Layer;
use tower_service::Service;

use crate::metrics;

/// Puts [`Observe`] around a service.
#[derive(Debug, Clone, Copy)]
pub struct ObserveLayer;

/// A service whose calls are counted.
#[derive(Debug, Clone)]
pub struct Observe<S>(S);

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Observe(inner)
    }
}

impl<S, B, R> Service<Request<B>> for Observe<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = Response<ObservedBody<R>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut call = Call { method: method(request.uri().path()), started: Instant::now(), code: Code::Cancelled };
        let response = self.0.call(request);
        Box::pin(async move {
            let response = response.await?;
            // An answer without messages has its status here.
            call.note(response.headers());
            Ok(response.map(|inner| ObservedBody { inner, call }))
        })
    }
}

/// The name of a method, from a list, so that a caller cannot make metrics grow.
fn method(path: &str) -> &'static str {
    match path {
        "/rasid.v1.TaggerService/Tag" => "Tag",
        "/rasid.v1.TaggerService/BatchTag" => "BatchTag",
        "/rasid.v1.TaggerService/StreamTag" => "StreamTag",
        "/rasid.v1.TaggerService/GetModelInfo" => "GetModelInfo",
        _ if path.starts_with("/grpc.health.v1.Health/") => "Health",
        _ if path.starts_with("/grpc.reflection.") => "Reflection",
        _ => "other",
    }
}

/// A call in flight; counted when dropped, as cancelled unless its status was seen.
#[derive(Debug)]
struct Call {
    method: &'static str,
    started: Instant,
    code: Code,
}

impl Call {
    fn note(&mut self, headers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(headers) {
            self.code = status.code();
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        metrics::request(self.method, code_name(self.code), self.started.elapsed());
    }
}

/// As it is written in the gRPC specification.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

pin_project! {
    /// An answer's messages; the status stands behind them.
    pub struct ObservedBody<B> {
        #[pin]
        inner: B,
        call: Call,
    }
}

impl<B: Body<Data = Bytes>> Body for ObservedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let frame = this.inner.poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            this.call.note(trailers);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
