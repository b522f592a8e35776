//! Asks every call for its key, by its headers alone: of a call without one nothing is read and nothing computed.

use std::{
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::Either;
use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use thiserror::Error;
use tonic::Status;
use tower_layer::Layer;
use tower_service::Service;

use super::{incoming::Peer, observe, status::CallError};
use crate::{
    auth::{Access, KeyStore, Refusal},
    config::ReflectionAccess,
    engine::Tenant,
    metrics::security as metrics,
};

/// What a call without a valid key counts under, where others have the name of theirs.
const NO_KEY: &str = "none";

/// Why a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AccessError {
    /// There is no key in its headers, or more than one.
    #[error("this service wants a key: send \"authorization: Bearer KEY\"")]
    Missing,
    /// The key is none that opens anything.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl AccessError {
    /// As it stands in an `ErrorInfo`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Missing => "KEY_MISSING",
            Self::Refused(Refusal::Unknown) => "KEY_INVALID",
            Self::Refused(Refusal::Expired) => "KEY_EXPIRED",
            Self::Refused(Refusal::Revoked) => "KEY_REVOKED",
        }
    }
}

/// Puts [`Auth`] around a service.
#[derive(Debug, Clone)]
pub struct AuthLayer {
    keys: Option<Arc<KeyStore>>,
    reflection: ReflectionAccess,
}

impl AuthLayer {
    /// Lets in who has one of these keys; without keys, everybody.
    pub fn new(keys: Option<Arc<KeyStore>>, reflection: ReflectionAccess) -> Self {
        Self { keys, reflection }
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = Auth<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Auth { inner, gate: self.clone() }
    }
}

/// A service that asks for keys.
#[derive(Debug, Clone)]
pub struct Auth<S> {
    inner: S,
    gate: AuthLayer,
}

impl<S, B, R> Service<Request<B>> for Auth<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.gate.admit(request.uri().path(), request.headers()) {
            Ok(access) => {
                if let Some(peer) = request.extensions().get::<Peer>()
                    && (access.is_some() || self.gate.keys.is_none())
                {
                    peer.note_admitted();
                }
                // Nothing further on needs it, and what is not there cannot be logged.
                request.headers_mut().remove(AUTHORIZATION);
                if let Some(access) = access {
                    let name = access.client().name();
                    observe::note_key(name);
                    let tenant = Tenant::new(Arc::clone(name));
                    request.extensions_mut().insert(tenant);
                    request.extensions_mut().insert(access);
                }
                Either::Left(self.inner.call(request))
            }
            Err(error) => {
                observe::note_key(NO_KEY);
                metrics::unauthenticated(error.reason());
                Either::Right(ready(Ok(Status::from(CallError::from(error)).into_http())))
            }
        }
    }
}

impl AuthLayer {
    /// Whose call it is; `None` where no key is asked for.
    fn admit(&self, path: &str, headers: &HeaderMap) -> Result<Option<Access>, AccessError> {
        match &self.keys {
            Some(keys) if !self.is_open(path) => Ok(Some(keys.authenticate(bearer(headers)?)?)),
            _ => Ok(None),
        }
    }

    /// Health is for orchestrators and balancers, which have no key.
    fn is_open(&self, path: &str) -> bool {
        let is_reflection = path.starts_with("/grpc.reflection.");
        path.starts_with("/grpc.health.v1.Health/") || (is_reflection && self.reflection == ReflectionAccess::Open)
    }
}

/// The key in `authorization: Bearer KEY`.
fn bearer(headers: &HeaderMap) -> Result<&[u8], AccessError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(AccessError::Missing) };
    let (scheme, key) = value.as_bytes().split_at_checked("Bearer ".len()).ok_or(AccessError::Missing)?;
    let key = key.trim_ascii();
    if scheme.eq_ignore_ascii_case(b"Bearer ") && !key.is_empty() { Ok(key) } else { Err(AccessError::Missing) }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_key_is_read_from_one_bearer_header() {
        let headers = |values: &[&'static str]| {
            values.iter().map(|&value| (AUTHORIZATION, HeaderValue::from_static(value))).collect::<HeaderMap>()
        };
        for value in ["Bearer abc", "bearer abc", "BEARER  abc "] {
            assert_eq!(bearer(&headers(&[value])), Ok(&b"abc"[..]), "{value}");
        }
        for values in
            [&[][..], &[""], &["abc"], &["Bearer"], &["Bearer "], &["Basic abc"], &["Bearer abc", "Bearer abc"]]
        {
            assert_eq!(bearer(&headers(values)), Err(AccessError::Missing), "{values:?}");
        }
    }
}
