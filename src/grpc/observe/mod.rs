//! Gives every call an id and a span, counts, times and logs it, whatever it ends with: as a layer, it sees what never reaches the
//! service. A panic within a call becomes its INTERNAL.

mod names;
mod record;
mod request_id;
mod span;
mod trace_context;

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};
use tonic::{Code, Status};
use tower_layer::Layer;
use tower_service::Service;
use tracing::{Instrument, Span};

use self::record::{CURRENT, Record};
pub use self::record::{note_document, note_key, request_id, spawn};
use super::status::defect;

/// Puts [`Observe`] around a service.
#[derive(Debug, Clone, Default)]
pub struct ObserveLayer {
    /// Empty when every call has been counted, logged and traced: a connection may end a little before its last call does.
    pub calls: TaskTracker,
}

/// A service whose calls are observed.
#[derive(Debug, Clone)]
pub struct Observe<S> {
    inner: S,
    calls: TaskTracker,
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Observe { inner, calls: self.calls.clone() }
    }
}

impl<S, B, R> Service<Request<B>> for Observe<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    R: Default,
{
    type Response = Response<ObservedBody<R>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut call = Observed::of(&request, self.calls.token());
        let response = call.enter(|| self.inner.call(request));
        Box::pin(async move {
            let response = CURRENT.scope(Arc::clone(&call.record), response.instrument(call.span.clone()));
            let mut response = match AssertUnwindSafe(response).catch_unwind().await {
                Ok(response) => response?,
                Err(_) => call.enter(|| defect("a call").into_http()),
            };
            // An answer without messages has its status here.
            call.note(response.headers());
            if let Some(id) = call.record.id.header() {
                response.headers_mut().insert(request_id::HEADER, id);
            }
            Ok(response.map(|inner| ObservedBody { inner, call, broken: false }))
        })
    }
}

/// A call in flight; it ends when dropped, as cancelled unless its status was seen.
#[derive(Debug)]
struct Observed {
    // Before the record, which holds the token: whoever waits for the call finds its span closed.
    span: Span,
    record: Arc<Record>,
    code: Code,
}

impl Observed {
    fn of<B>(request: &Request<B>, token: TaskTrackerToken) -> Self {
        let mut record = Record::of(request, token);
        let span = span::open(&mut record, request.headers());
        Self { span, record: Arc::new(record), code: Code::Cancelled }
    }

    /// Does a part of the call's work.
    fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(Arc::clone(&self.record), || self.span.in_scope(work))
    }

    fn note(&mut self, headers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(headers) {
            self.code = status.code();
        }
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        span::close(&self.span, &self.record, self.code);
        self.record.end(self.code);
    }
}

pin_project! {
    /// An answer's messages; the status stands behind them.
    pub struct ObservedBody<B> {
        #[pin]
        inner: B,
        call: Observed,
        // What panicked is not touched again.
        broken: bool,
    }
}

impl<B: Body<Data = Bytes>> Body for ObservedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let (inner, call) = (this.inner, this.call);
        if *this.broken {
            return Poll::Ready(None);
        }
        let poll = || catch_unwind(AssertUnwindSafe(|| inner.poll_frame(context)));
        let frame = call.enter(poll).unwrap_or_else(|_| {
            *this.broken = true;
            let mut trailers = HeaderMap::new();
            // A message without details always fits.
            let _ = call.enter(|| defect("an answer").add_header(&mut trailers));
            Poll::Ready(Some(Ok(Frame::trailers(trailers))))
        });
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            call.note(trailers);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.broken || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Ready, ready};

    use http_body_util::BodyExt;
    use tonic_types::StatusExt;

    use super::*;

    /// Panics when awaited, or when its answer is read.
    #[derive(Clone, Copy, PartialEq)]
    enum Panics {
        Awaited,
        Read,
    }

    #[derive(Default)]
    struct Answer(bool);

    impl Body for Answer {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            assert!(!self.0, "in the answer");
            Poll::Ready(None)
        }
    }

    impl Service<Request<()>> for Panics {
        type Response = Response<Answer>;
        type Error = Status;
        type Future = futures_util::future::Map<Ready<Panics>, fn(Panics) -> Result<Response<Answer>, Status>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<()>) -> Self::Future {
            ready(*self).map(|panics| {
                assert!(panics != Panics::Awaited, "in the call");
                Ok(Response::new(Answer(true)))
            })
        }
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_error_of_that_call() {
        for panics in [Panics::Awaited, Panics::Read] {
            let request = Request::builder().header("x-request-id", "call-7").body(()).unwrap();
            let response = ObserveLayer::default().layer(panics).call(request).await.unwrap();
            assert_eq!(response.headers()["x-request-id"], "call-7");
            let (head, body) = response.into_parts();
            let trailers = body.collect().await.unwrap().trailers().cloned();
            let status = Status::from_header_map(trailers.as_ref().unwrap_or(&head.headers)).unwrap();
            assert_eq!((status.code(), status.message()), (Code::Internal, "internal error"));
            assert_eq!(status.get_error_details().request_info().unwrap().request_id, "call-7");
        }
    }
}
