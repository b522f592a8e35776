//! The model that answers, and its replacement while the service runs.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use thiserror::Error;

use super::{
    Engine, EngineConfig, EngineError, Memory, Place, StartError, Tenant, TenantLoad, Ticket, admission::Admission,
    drain::DrainRate,
};
use crate::{
    metrics,
    model::{Bundle, Manifest, ModelError},
    tagger::Tagger,
};

/// Where models come from.
pub trait ModelLoader: Send + Sync + 'static {
    /// Finds the bundle, after fetching it if need be, and reads its manifest.
    ///
    /// # Errors
    /// If it cannot be found, read or understood.
    fn open(&self) -> Result<Bundle, ModelError>;

    /// Loads the model of a bundle.
    ///
    /// # Errors
    /// If it cannot be read or understood.
    fn tagger(&self, bundle: Bundle) -> Result<Tagger, ModelError>;
}

/// Holds the engine with the current model and puts another in its place.
///
/// The bounds on tokens and bytes are the host's: two engines side by side share them. Whoever has got an engine keeps it for as long
/// as it holds the `Arc`; when the last has let go of an old one, its threads answer what they have and end, and its memory is given back.
pub struct ModelHost {
    current: ArcSwapOption<Engine>,
    loader: Box<dyn ModelLoader>,
    config: EngineConfig,
    admission: Admission,
    memory: Memory,
    /// Held while a model is loaded.
    loading: Mutex<()>,
}

/// What a reload has led to.
#[derive(Debug, Clone, PartialEq)]
pub struct Reload {
    /// The model before; none if this was the first.
    pub old: Option<Arc<Manifest>>,
    /// The model that answers now. Of the same revision as the old one: nothing was loaded.
    pub new: Arc<Manifest>,
}

impl Reload {
    /// What has happened, in a word.
    pub fn result(&self) -> &'static str {
        match &self.old {
            Some(old) if old.revision == self.new.revision => "unchanged",
            Some(_) => "replaced",
            None => "loaded",
        }
    }
}

/// Why the model is still the old one.
#[derive(Debug, Error)]
pub enum ReloadError {
    /// Another is being loaded.
    #[error("a model is being loaded already")]
    Busy,
    /// It could not be loaded.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// It was loaded and does not run.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A defect: loading it panicked.
    #[error("loading the model panicked")]
    Panicked,
}

impl ReloadError {
    /// What has happened, in a word.
    pub fn result(&self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Model(_) | Self::Start(_) | Self::Panicked => "failed",
        }
    }
}

/// What is in the host's engines, over all callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// Tokens let in and not answered, estimated from bytes.
    pub queued_tokens: usize,
    /// Most tokens.
    pub max_queued_tokens: usize,
    /// Documents let in and not answered.
    pub admitted_documents: usize,
    /// Documents of bulk work that wait for room.
    pub waiting_documents: usize,
    /// Bytes of requests and answers that calls hold.
    pub held_bytes: usize,
    /// Most bytes.
    pub max_held_bytes: usize,
    /// Each tenant's part, by its name.
    pub tenants: Vec<TenantLoad>,
}

impl std::fmt::Debug for ModelHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelHost")
            .field("current", &self.current)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl ModelHost {
    /// A host without a model yet.
    pub fn new(loader: impl ModelLoader, config: EngineConfig) -> Self {
        let drain = DrainRate::default();
        Self {
            current: ArcSwapOption::empty(),
            loader: Box::new(loader),
            config,
            admission: Admission::new(config.max_queued_tokens, drain.clone()),
            memory: Memory::new(config.max_held_bytes, drain),
            loading: Mutex::new(()),
        }
    }

    /// The engine with the current model; none before the first is loaded.
    pub fn current(&self) -> Option<Arc<Engine>> {
        self.current.load_full()
    }

    /// Finds a document of so many bytes its place in the engine. Whoever may be answered by any model had better ask for the current one
    /// afterwards: one that was held meanwhile may have been replaced, and stays in memory for it.
    ///
    /// # Errors
    /// [`EngineError::QueueFull`], only in [`Lane::Interactive`](super::Lane::Interactive), other lanes wait for room;
    /// [`EngineError::DeadlineExceeded`].
    pub async fn admit(&self, bytes: usize, ticket: &Ticket) -> Result<Place, EngineError> {
        Place::find(&self.admission, bytes, ticket).await
    }

    /// Refuses at once if bulk work of a tenant already waits for room.
    ///
    /// # Errors
    /// [`EngineError::QueueFull`].
    pub fn check_room(&self, tenant: &Tenant) -> Result<(), EngineError> {
        self.admission.check_room(tenant)
    }

    /// Most tokens waiting or being worked on.
    pub fn max_queued_tokens(&self) -> usize {
        self.admission.capacity()
    }

    /// What calls may hold.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Loads the model that its source holds now, warms it, and lets it answer from then on; until then, and if it cannot be used, the
    /// old one does. Blocks for as long as that takes. Logs and counts what has come of it.
    ///
    /// # Errors
    /// [`ReloadError`]; the model is the old one then.
    pub fn reload(&self) -> Result<Reload, ReloadError> {
        let result = match self.loading.try_lock() {
            Some(_loading) => catch_unwind(AssertUnwindSafe(|| self.replace())).unwrap_or(Err(ReloadError::Panicked)),
            None => Err(ReloadError::Busy),
        };
        match &result {
            Ok(reload) => {
                metrics::model_loaded();
                let Manifest { name, version, revision, .. } = &*reload.new;
                tracing::info!(name, version, revision, "model {}", reload.result());
            }
            Err(error) => tracing::error!(%error, "the model cannot be loaded"),
        }
        result
    }

    fn replace(&self) -> Result<Reload, ReloadError> {
        let old = self.current().map(|engine| Arc::clone(engine.tagger().manifest()));
        let bundle = self.loader.open()?;
        if let Some(old) = old.as_ref().filter(|old| old.revision == bundle.manifest().revision) {
            return Ok(Reload { old: Some(Arc::clone(old)), new: Arc::clone(old) });
        }
        let engine = Engine::start(self.loader.tagger(bundle)?, self.admission.drain(), self.config)?;
        let new = Arc::clone(engine.tagger().manifest());
        self.current.store(Some(Arc::new(engine)));
        if let Some(old) = &old {
            metrics::model(&old.name, &old.version, &old.revision, false);
        }
        metrics::model(&new.name, &new.version, &new.revision, true);
        Ok(Reload { old, new })
    }

    /// What is in the engines now.
    pub fn load(&self) -> Load {
        let (admitted_documents, waiting_documents) = self.admission.documents();
        let mut tenants = self.admission.by_tenant();
        let held = self.memory.by_tenant();
        for (tenant, bytes) in &held {
            TenantLoad::of(&mut tenants, tenant).held_bytes = *bytes;
        }
        tenants.sort_by(|a, b| a.tenant.name().cmp(b.tenant.name()));
        Load {
            queued_tokens: self.admission.tokens(),
            max_queued_tokens: self.admission.capacity(),
            admitted_documents,
            waiting_documents,
            held_bytes: held.iter().map(|(_, bytes)| bytes).sum(),
            max_held_bytes: self.memory.limit(),
            tenants,
        }
    }
}
