//! Answers that would never end, those of health's Watch and of reflection, end with the server: else whoever watches would hold every
//! shutdown until its bound.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body as _, Frame};
use pin_project_lite::pin_project;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Status, body::Body};
use tower_layer::Layer;
use tower_service::Service;

use super::status::CallError;

/// Puts [`Farewell`] around a service.
#[derive(Debug, Clone)]
pub struct FarewellLayer {
    /// Cancelled when the server shuts down.
    pub draining: CancellationToken,
}

/// A service whose endless answers end with the server.
#[derive(Debug, Clone)]
pub struct Farewell<S> {
    inner: S,
    draining: CancellationToken,
}

impl<S> Layer<S> for FarewellLayer {
    type Service = Farewell<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Farewell { inner, draining: self.draining.clone() }
    }
}

impl<S> Service<Request<Body>> for Farewell<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let is_endless = request.uri().path().starts_with("/grpc.");
        let response = self.inner.call(request);
        let draining = self.draining.clone();
        Box::pin(async move {
            let response = response.await?;
            if !is_endless || response.body().is_end_stream() {
                return Ok(response);
            }
            let draining = draining.cancelled_owned();
            Ok(response.map(|inner| Body::new(FarewellBody { inner, draining, has_ended: false })))
        })
    }
}

pin_project! {
    /// An answer that may never end by itself.
    struct FarewellBody {
        #[pin]
        inner: Body,
        #[pin]
        draining: WaitForCancellationFutureOwned,
        has_ended: bool,
    }
}

impl http_body::Body for FarewellBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        if *this.has_ended {
            return Poll::Ready(None);
        }
        // What there is to say is said first: NOT_SERVING among it.
        if let Poll::Ready(frame) = this.inner.poll_frame(context) {
            return Poll::Ready(frame);
        }
        this.draining.poll(context).map(|()| {
            *this.has_ended = true;
            let mut trailers = HeaderMap::new();
            // Of ASCII, which always fits.
            let _ = Status::from(CallError::Draining).add_header(&mut trailers);
            Some(Ok(Frame::trailers(trailers)))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended || self.inner.is_end_stream()
    }
}
