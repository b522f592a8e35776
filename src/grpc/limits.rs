//! Holds every call to the limits of its key: calls here, before anything of them is read; documents where they are read.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::Status;
use tower_layer::Layer;
use tower_service::Service;

use super::{auth::AccessError, status::CallError};
use crate::auth::{Access, CallGuard};

/// Puts [`Limit`] around a service. Goes inside of the authentication, which says whose call it is.
#[derive(Debug, Clone, Copy)]
pub struct LimitLayer;

impl<S> Layer<S> for LimitLayer {
    type Service = Limit<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Limit(inner)
    }
}

/// A service whose calls are limited.
#[derive(Debug, Clone)]
pub struct Limit<S>(S);

impl<S, B, R> Service<Request<B>> for Limit<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    R: Default + Send + 'static,
{
    type Response = Response<LimitedBody<R>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let guard = match request.extensions().get().map(Access::begin_call).transpose() {
            Ok(guard) => guard,
            Err(error) => {
                let refusal = Status::from(CallError::from(error)).into_http();
                return Box::pin(async { Ok(refusal) });
            }
        };
        let response = self.0.call(request);
        Box::pin(async move { Ok(response.await?.map(|inner| LimitedBody { inner, guard })) })
    }
}

pin_project! {
    /// An answer's messages; the call is over when they have been sent or given up.
    #[derive(Default)]
    pub struct LimitedBody<B> {
        #[pin]
        inner: B,
        guard: Option<CallGuard>,
    }
}

impl<B: Body<Data = Bytes>> Body for LimitedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.project().inner.poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// What the key of a call allows it to send; everything, where no key is asked for.
#[derive(Debug, Clone)]
pub struct Allowance(Option<Access>);

impl Allowance {
    /// That of a call.
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        Self(request.extensions().get().cloned())
    }

    /// Counts the documents of a request, all of them or none.
    pub fn take(&self, documents: usize) -> Result<(), CallError> {
        match &self.0 {
            Some(access) => Ok(access.take_documents(documents)?),
            None => Ok(()),
        }
    }

    /// Counts one document of a stream, once there is room for it and if the key is still valid.
    pub async fn wait(&self) -> Result<(), CallError> {
        match &self.0 {
            Some(access) => access.wait_for_document().await.map_err(|refusal| AccessError::Refused(refusal).into()),
            None => Ok(()),
        }
    }
}
