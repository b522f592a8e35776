//! Clients that open calls only to cancel them (rapid reset, CVE-2023-44487). Each costs the client two small frames and us a call; whoever
//! does it on and on is disconnected. Only calls cancelled right after they began count: of others there are no more than streams, and clients
//! that give up for lack of time are to be left alone. Goes around everything else, so that it sees every call.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::incoming::Peer;

/// A call cancelled sooner than this was opened to be cancelled, or might have been.
const PREMATURE: Duration = Duration::from_secs(1);

/// Puts [`Resets`] around a service.
#[derive(Debug, Clone, Copy)]
pub struct ResetLayer;

impl<S> Layer<S> for ResetLayer {
    type Service = Resets<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Resets(inner)
    }
}

/// A service whose cancelled calls are counted by connection.
#[derive(Debug, Clone)]
pub struct Resets<S>(S);

impl<S, B, R> Service<Request<B>> for Resets<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    R: Body<Data = Bytes> + 'static,
{
    type Response = Response<ResetBody<R>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let peer = request.extensions().get::<Peer>().cloned();
        if let Some(peer) = &peer {
            // As tonic and our own layers look for it.
            request.extensions_mut().insert(peer.connect_info());
        }
        let mut call = Call { peer, started: Instant::now() };
        let response = self.0.call(request);
        Box::pin(async move {
            let response = response.await?;
            if response.body().is_end_stream() {
                call.end();
            }
            Ok(response.map(|inner| ResetBody { inner, call }))
        })
    }
}

/// A call in flight; cancelled if it is dropped before its end.
#[derive(Debug)]
struct Call {
    peer: Option<Peer>,
    started: Instant,
}

impl Call {
    fn end(&mut self) {
        self.peer = None;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(peer) = &self.peer
            && self.started.elapsed() < PREMATURE
        {
            peer.note_reset();
        }
    }
}

pin_project! {
    /// An answer's messages.
    pub struct ResetBody<B> {
        #[pin]
        inner: B,
        call: Call,
    }
}

impl<B: Body<Data = Bytes>> Body for ResetBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let frame = this.inner.poll_frame(context);
        let is_end = match &frame {
            Poll::Ready(Some(Ok(frame))) => frame.is_trailers(),
            Poll::Ready(_) => true,
            Poll::Pending => false,
        };
        if is_end {
            this.call.end();
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
