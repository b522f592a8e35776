//! Requests that do not come to an end. What is read of one is kept until it is whole, so that it must be whole in time; a StreamTag may
//! take its time, since nothing of it is kept (see [`super::idle`]). One that breaks off was given up by
//! its client.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body::{Body as _, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Status, body::Body};
use tower_layer::Layer;
use tower_service::Service;

use super::{deadline, status::CallError};
use crate::{engine::EngineError, metrics::security as metrics};

/// Puts [`Upload`] around a service.
#[derive(Debug, Clone, Copy)]
pub struct UploadLayer {
    /// How long a request may take.
    pub limit: Duration,
}

impl<S> Layer<S> for UploadLayer {
    type Service = Upload<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Upload { inner, limit: self.limit }
    }
}

/// A service whose requests must be whole in time.
#[derive(Debug, Clone)]
pub struct Upload<S> {
    inner: S,
    limit: Duration,
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for Upload<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.body().is_end_stream() {
            return self.inner.call(request);
        }
        let (limit, now) = (self.limit, Instant::now());
        // tonic would end a call beyond its deadline as CANCELLED.
        let deadline = deadline::from_now(request.headers()).filter(|deadline| *deadline <= now + limit);
        let end = (!is_stream(request.uri().path())).then(|| sleep_until(deadline.unwrap_or(now + limit)));
        let has_deadline = deadline.is_some();
        self.inner.call(request.map(|inner| Body::new(UploadBody { inner, limit, has_deadline, end })))
    }
}

/// Methods whose request is a stream of messages.
pub(super) fn is_stream(path: &str) -> bool {
    path == "/rasid.v1.TaggerService/StreamTag" || path.starts_with("/grpc.reflection.")
}

pin_project! {
    /// A request on its way.
    struct UploadBody {
        #[pin]
        inner: Body,
        limit: Duration,
        // The call's deadline comes before the limit.
        has_deadline: bool,
        #[pin]
        end: Option<Sleep>,
    }
}

impl http_body::Body for UploadBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        match this.inner.poll_frame(context) {
            // The stream or its connection is gone, and with it whoever would read an answer: the transport is about to drop the call,
            // which counts as cancelled. tonic would end it as INTERNAL.
            Poll::Ready(Some(Err(_))) => return Poll::Pending,
            Poll::Ready(frame) => return Poll::Ready(frame),
            Poll::Pending => {}
        }
        let Some(end) = this.end.as_pin_mut() else { return Poll::Pending };
        end.poll(context).map(|()| {
            let error = if *this.has_deadline {
                CallError::Engine { path: "request".to_owned(), source: EngineError::DeadlineExceeded }
            } else {
                metrics::call_given_up("upload");
                CallError::UploadTooSlow { limit: *this.limit }
            };
            Some(Err(error.into()))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
