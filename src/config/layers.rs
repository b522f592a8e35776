//! Where the settings of a command come from: a TOML file, then the environment, then flags; the later comes before the earlier.
//!
//! clap knows every setting: its name, default, range and variable. A file only puts other defaults under it, so that all three
//! ways have the same names and checks.

use std::{
    collections::BTreeMap,
    env,
    error::Error as _,
    ffi::{OsStr, OsString},
    fmt, fs, io,
    path::{Path, PathBuf},
};

use clap::{
    Arg, ArgMatches, Command,
    error::{ContextKind, ContextValue},
    parser::ValueSource,
};
use thiserror::Error;
use toml::{Spanned, Value};

use super::Contradiction;

/// Arguments that are about the settings, not among them.
const OWN: [&str; 4] = ["config", "print_config", "help", "version"];

/// Beginnings of variables that are no settings and may be there: those of `rasid health`, which runs beside the server, and those that
/// Kubernetes sets in every container beside a service named rasid.
const OTHERS: [&str; 3] = ["RASID_HEALTH_", "RASID_SERVICE_", "RASID_PORT"];

/// What stands for a secret.
const MASK: &str = "********";

/// Where a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The program.
    Default,
    /// A line of a file, counted from one.
    File(PathBuf, usize),
    /// A variable.
    Environment(String),
    /// The command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// Settings that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file is not there.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{origin}: {problem}")]
    Toml {
        /// The place.
        origin: Origin,
        /// What is wrong there.
        problem: String,
    },
    /// There is no such setting.
    #[error("{origin}: there is no setting {name:?}")]
    Unknown {
        /// The place.
        origin: Origin,
        /// Its name.
        name: String,
    },
    /// Settings do not go together.
    #[error("{problem}, but {}", listed(settings))]
    Contradiction {
        /// Which.
        settings: Vec<Setting>,
        /// What they must be.
        problem: Contradiction,
    },
    /// The value is of a wrong type or out of range.
    #[error("{origin}: {name} cannot be {value}: {problem}")]
    Value {
        /// The place.
        origin: Origin,
        /// The setting.
        name: String,
        /// What it was to be.
        value: String,
        /// Why not.
        problem: String,
    },
}

/// Which defaults a file has put under a command.
#[derive(Debug, Default)]
pub struct Layers {
    file: BTreeMap<String, Origin>,
}

/// An effective setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its name in a file.
    pub name: String,
    /// Its value; none if there is no default either.
    pub value: Option<String>,
    /// Where it comes from.
    pub origin: Origin,
    /// Whether its value is not to be shown.
    pub is_secret: bool,
}

impl Layers {
    /// Lays a file's settings under a command and checks those of the environment, so that what is wrong is told with its place.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn lay(mut command: Command, file: Option<&Path>) -> Result<(Command, Self), ConfigError> {
        let mut layers = Self::default();
        if let Some(path) = file {
            for entry in read(path)? {
                let Entry { name, value, origin } = entry;
                let Some(argument) = settings(&command).find(|argument| argument.get_id() == name.as_str()) else {
                    return Err(ConfigError::Unknown { origin, name });
                };
                let checked = scalar(&value).and_then(|text| check(argument, OsStr::new(&text)).map(|()| text));
                let checked = checked.map_err(|problem| {
                    let value = if is_secret(argument) { MASK.to_owned() } else { value.to_string() };
                    let (origin, name) = (origin.clone(), name.clone());
                    ConfigError::Value { origin, name, value, problem }
                })?;
                // Not mut_arg, which moves the argument to the end.
                command = command.mut_args(|argument| {
                    if argument.get_id() == name.as_str() { argument.default_value(checked.clone()) } else { argument }
                });
                layers.file.insert(name, origin);
            }
        }
        for argument in settings(&command) {
            let Some(variable) = argument.get_env().and_then(OsStr::to_str) else { continue };
            if let Some(value) = env::var_os(variable) {
                check(argument, &value).map_err(|problem| ConfigError::Value {
                    origin: Origin::Environment(variable.to_owned()),
                    name: argument.get_id().to_string(),
                    value: if is_secret(argument) { MASK.to_owned() } else { format!("{value:?}") },
                    problem,
                })?;
            }
        }
        Ok((command, layers))
    }

    /// All settings of a command, in the order of its help.
    pub fn effective(&self, command: &Command, matches: &ArgMatches) -> Vec<Setting> {
        let setting = |argument: &Arg| {
            let name = argument.get_id().to_string();
            let flag = || Origin::Flag(argument.get_long().unwrap_or_default().to_owned());
            let variable = || argument.get_env().unwrap_or_default().to_string_lossy().into_owned();
            let origin = match matches.value_source(&name) {
                Some(ValueSource::CommandLine) => flag(),
                Some(ValueSource::EnvVariable) => Origin::Environment(variable()),
                _ => self.file.get(&name).cloned().unwrap_or(Origin::Default),
            };
            let value = matches.get_raw(&name).and_then(|mut values| values.next());
            let value = value.map(|value| value.to_string_lossy().into_owned());
            Setting { value, name, origin, is_secret: is_secret(argument) }
        };
        settings(command).map(setting).collect()
    }
}

impl ConfigError {
    /// Tells of settings that do not go together with their values and where those come from.
    pub fn contradiction(problem: Contradiction, effective: Vec<Setting>) -> Self {
        let is_one = |setting: &Setting| problem.settings.contains(&setting.name.as_str());
        Self::Contradiction { settings: effective.into_iter().filter(is_one).collect(), problem }
    }
}

/// Settings in a sentence.
fn listed(settings: &[Setting]) -> String {
    let one = |Setting { name, value, origin, .. }: &Setting| match value {
        Some(value) => format!("{name} is {value} ({origin})"),
        None => format!("{name} is not set"),
    };
    settings.iter().map(one).collect::<Vec<_>>().join(" and ")
}

impl fmt::Display for Setting {
    /// A line of TOML; of what is not to be shown, or is not there, a comment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, value, origin, is_secret } = self;
        let Some(value) = value else { return write!(f, "# {name} is not set") };
        if *is_secret {
            let line = format!("# {name} = {MASK}");
            return write!(f, "{line:<44} # {origin}");
        }
        let line = match value.parse::<Value>() {
            Ok(scalar @ (Value::Integer(_) | Value::Float(_) | Value::Boolean(_))) => format!("{name} = {scalar}"),
            _ => format!("{name} = {}", Value::String(value.clone())),
        };
        write!(f, "{line:<44} # {origin}")
    }
}

/// Variables that look like settings of ours and are none. Not an error, since an orchestrator may set some.
pub fn unknown_variables(command: &Command) -> Vec<String> {
    let names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let is_ours =
        |name: &String| name.starts_with("RASID_") && !OTHERS.iter().any(|beginning| name.starts_with(beginning));
    let is_known = |name: &String| command.get_arguments().any(|argument| argument.get_env() == Some(OsStr::new(name)));
    names.filter(|name| is_ours(name) && !is_known(name)).collect()
}

/// Whether a setting's value is not to be shown: clap hides those of the environment, we all.
fn is_secret(argument: &Arg) -> bool {
    argument.is_hide_env_values_set()
}

/// The arguments of a command that a file may set.
fn settings(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|argument| !OWN.contains(&argument.get_id().as_str()))
}

struct Entry {
    name: String,
    value: Value,
    origin: Origin,
}

fn read(path: &Path) -> Result<Vec<Entry>, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let place = |at: usize| Origin::File(path.to_owned(), text[..at].matches('\n').count() + 1);
    let table: BTreeMap<Spanned<String>, Value> = toml::from_str(&text).map_err(|error| ConfigError::Toml {
        origin: place(error.span().map_or(0, |span| span.start)),
        problem: error.message().to_owned(),
    })?;
    let entry = |(name, value): (Spanned<String>, Value)| Entry {
        origin: place(name.span().start),
        name: name.into_inner(),
        value,
    };
    Ok(table.into_iter().map(entry).collect())
}

/// A value as it would stand on the command line.
fn scalar(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => Ok(value.to_string()),
        _ => Err("it must be a string, a number or a boolean".to_owned()),
    }
}

/// Whether an argument takes a value.
fn check(argument: &Arg, value: &OsStr) -> Result<(), String> {
    let mut flag = OsString::from(format!("--{}=", argument.get_long().unwrap_or_default()));
    flag.push(value);
    // By itself, so that nothing else can be at fault.
    let alone = Command::new("").no_binary_name(true).arg(argument.clone());
    alone.try_get_matches_from([flag]).map(drop).map_err(|error| {
        match (error.source(), error.get(ContextKind::ValidValue)) {
            (Some(source), _) => source.to_string(),
            (None, Some(ContextValue::Strings(values))) => format!("it must be one of {}", values.join(", ")),
            _ => error.to_string(),
        }
    })
}
