//! Keys and limits as an operator writes them: a TOML file, or `name=sha256` pairs in a setting.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    num::NonZeroU32,
    path::Path,
};

use serde::Deserialize;
use time::{Date, Month, OffsetDateTime, Time, UtcOffset};
use toml::{Spanned, value::Datetime};

use super::{
    error::{KeyError, MAX_FILE_BYTES, MAX_KEYS, MAX_KEYS_OF_A_NAME, MAX_LIMIT, Place, Problem, check_name},
    key::KeyHash,
    limits::{LimitSpec, Rate},
    store::KeySources,
};

/// One key.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub name: String,
    pub hash: KeyHash,
    /// Seconds since 1970.
    pub expires: Option<i64>,
    place: Place,
}

/// All keys, and the limits of their names.
#[derive(Debug, Default)]
pub(super) struct Entries {
    pub keys: Vec<Entry>,
    limits: HashMap<String, LimitSpec>,
    default_limits: LimitSpec,
}

impl Entries {
    /// Reads and checks what the sources hold.
    pub fn read(sources: &KeySources) -> Result<Self, KeyError> {
        let mut entries = Self::default();
        let mut limited = Vec::new();
        if let Some(path) = &sources.file {
            limited = entries.add_file(path, &read_file(path)?)?;
        }
        if let Some(pairs) = &sources.pairs {
            entries.add_pairs(pairs)?;
        }
        let nameless = limited.into_iter().find(|(name, _)| !entries.keys.iter().any(|entry| entry.name == *name));
        match nameless {
            Some((name, place)) => Err(KeyError::Entry { place, problem: Problem::NoSuchName(name) }),
            None => Ok(entries),
        }
    }

    /// The limits of a name.
    pub fn limits(&self, name: &str) -> LimitSpec {
        self.limits.get(name).copied().unwrap_or(self.default_limits)
    }

    fn add(&mut self, entry: Entry) -> Result<(), KeyError> {
        let failed = |problem| Err(KeyError::Entry { place: entry.place.clone(), problem });
        check_name(&entry.name).or_else(failed)?;
        if let Some(first) = self.keys.iter().find(|other| other.hash == entry.hash) {
            return failed(Problem::Repeated(first.place.clone()));
        }
        if self.keys.iter().filter(|other| other.name == entry.name).count() == MAX_KEYS_OF_A_NAME {
            return failed(Problem::ThirdKey(entry.name));
        }
        if self.keys.len() == MAX_KEYS {
            return failed(Problem::TooMany);
        }
        self.keys.push(entry);
        Ok(())
    }

    /// Adds what a file holds; returns the names that it has limits for, which need a key somewhere.
    fn add_file(&mut self, path: &Path, text: &str) -> Result<Vec<(String, Place)>, KeyError> {
        let place =
            |at: usize| Place::File(path.to_owned(), text.bytes().take(at).filter(|&byte| byte == b'\n').count() + 1);
        let failed = |at: usize, problem| KeyError::Entry { place: place(at), problem };
        let file: File = toml::from_str(text).map_err(|error| KeyError::Toml {
            place: place(error.span().map_or(0, |span| span.start)),
            problem: error.message().to_owned(),
        })?;
        for key in file.keys {
            let hash = parse_hash(key.sha256.as_ref()).map_err(|problem| failed(key.sha256.span().start, problem))?;
            let expires = key.expires.map(|at| expiry(at.as_ref()).map_err(|problem| failed(at.span().start, problem)));
            let place = place(key.name.span().start);
            self.add(Entry { name: key.name.into_inner(), hash, expires: expires.transpose()?, place })?;
        }
        let spec = |limits: FileLimits| limits.spec().map_err(|(at, problem)| failed(at, problem));
        if let Some(limits) = file.default_limits {
            self.default_limits = spec(limits)?;
        }
        let mut limited = Vec::new();
        for (name, limits) in file.limits {
            limited.push((name.get_ref().clone(), place(name.span().start)));
            self.limits.insert(name.into_inner(), spec(limits)?);
        }
        Ok(limited)
    }

    fn add_pairs(&mut self, pairs: &str) -> Result<(), KeyError> {
        let pairs = pairs.split(',').map(str::trim).enumerate().filter(|(_, pair)| !pair.is_empty());
        for (index, pair) in pairs {
            let place = Place::Setting(index + 1);
            let failed = |problem| KeyError::Entry { place: place.clone(), problem };
            let (name, hash) = pair.split_once('=').ok_or_else(|| failed(Problem::Pair))?;
            let hash = parse_hash(hash.trim()).map_err(failed)?;
            self.add(Entry { name: name.trim().to_owned(), hash, expires: None, place })?;
        }
        Ok(())
    }
}

fn read_file(path: &Path) -> Result<String, KeyError> {
    let failed = |source| KeyError::Read { path: path.to_owned(), source };
    let actual = fs::metadata(path).map_err(failed)?.len();
    if actual > MAX_FILE_BYTES {
        return Err(KeyError::FileTooLarge { path: path.to_owned(), actual });
    }
    fs::read_to_string(path).map_err(failed)
}

fn parse_hash(text: &str) -> Result<KeyHash, Problem> {
    text.parse().map_err(Problem::Hash)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    keys: Vec<FileKey>,
    #[serde(default)]
    limits: BTreeMap<Spanned<String>, FileLimits>,
    default_limits: Option<FileLimits>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileKey {
    name: Spanned<String>,
    sha256: Spanned<String>,
    expires: Option<Spanned<Datetime>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileLimits {
    calls_per_second: Option<Spanned<f64>>,
    calls_burst: Option<Spanned<f64>>,
    documents_per_second: Option<Spanned<f64>>,
    documents_burst: Option<Spanned<f64>>,
    concurrent_calls: Option<Spanned<f64>>,
}

/// A problem, and the byte of the file where it is.
type Located = (usize, Problem);

impl FileLimits {
    fn spec(self) -> Result<LimitSpec, Located> {
        Ok(LimitSpec {
            calls: rate("calls", "calls_per_second", "calls_burst", self.calls_per_second, self.calls_burst)?,
            documents: rate(
                "documents",
                "documents_per_second",
                "documents_burst",
                self.documents_per_second,
                self.documents_burst,
            )?,
            concurrent_calls: self.concurrent_calls.map(|limit| count("concurrent_calls", limit)).transpose()?,
        })
    }
}

/// A rate; without a burst of its own, a second's worth may come at once.
fn rate(
    field: &'static str,
    rate_field: &'static str,
    burst_field: &'static str,
    per_second: Option<Spanned<f64>>,
    burst: Option<Spanned<f64>>,
) -> Result<Option<Rate>, Located> {
    let burst = burst.map(|burst| Ok((burst.span().start, count(burst_field, burst)?))).transpose()?;
    let Some(per_second) = per_second else {
        return match burst {
            Some((at, _)) => Err((at, Problem::BurstAlone { field })),
            None => Ok(None),
        };
    };
    let (at, per_second) = (per_second.span().start, per_second.into_inner());
    // From one in about ten days up, so that its period can be told.
    if !(1e-6..=f64::from(MAX_LIMIT)).contains(&per_second) {
        return Err((at, Problem::Range { field: rate_field, value: per_second }));
    }
    let second = NonZeroU32::new(per_second.ceil() as u32).unwrap_or(NonZeroU32::MIN);
    Ok(Some(Rate { per_second, burst: burst.map_or(second, |(_, burst)| burst) }))
}

/// A whole number of calls or documents.
fn count(field: &'static str, value: Spanned<f64>) -> Result<NonZeroU32, Located> {
    let (at, value) = (value.span().start, value.into_inner());
    let is_whole = value.fract() == 0.0 && value <= f64::from(MAX_LIMIT);
    let whole = if is_whole { NonZeroU32::new(value as u32) } else { None };
    whole.ok_or((at, Problem::Range { field, value }))
}

/// Seconds since 1970.
fn expiry(at: &Datetime) -> Result<i64, Problem> {
    moment(at).map(OffsetDateTime::unix_timestamp).ok_or_else(|| Problem::Expiry(at.to_string()))
}

fn moment(at: &Datetime) -> Option<OffsetDateTime> {
    let (date, time, offset) = (at.date?, at.time?, at.offset?);
    let date = Date::from_calendar_date(date.year.into(), Month::try_from(date.month).ok()?, date.day).ok()?;
    // TOML knows leap seconds.
    let time = Time::from_hms(time.hour, time.minute, time.second.unwrap_or(0).min(59)).ok()?;
    let offset = match offset {
        toml::value::Offset::Z => UtcOffset::UTC,
        toml::value::Offset::Custom { minutes } => UtcOffset::from_whole_seconds(i32::from(minutes) * 60).ok()?,
    };
    Some(date.with_time(time).assume_offset(offset))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn read(text: &str, pairs: Option<&str>) -> Result<Entries, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        fs::write(&path, text).unwrap();
        let sources = KeySources { file: Some(path), pairs: pairs.map(str::to_owned) };
        let prefix = format!("{}/", folder.path().display());
        Entries::read(&sources).map_err(|error| error.to_string().replace(&prefix, ""))
    }

    fn key(name: &str, hash: &str) -> String {
        format!("[[keys]]\nname = \"{name}\"\nsha256 = \"{hash}\"\n")
    }

    #[test]
    fn keys_and_limits_are_read() {
        let text = key("desk", A)
            + "expires = 2027-01-31T02:00:00.5+02:00\n"
            + &key("desk", B)
            + "[limits.desk]\ncalls_per_second = 2.5\ndocuments_per_second = 20\ndocuments_burst = 1000\n\
               [default_limits]\nconcurrent_calls = 4\n";
        let entries = read(&text, Some(&format!("job = {}, ", A.replace('a', "c")))).unwrap();
        assert_eq!(entries.keys.len(), 3);
        assert_eq!(entries.keys[0].expires, Some(1_801_353_600));
        assert_eq!(entries.keys[1].expires, None);
        let desk = entries.limits("desk");
        assert_eq!(desk.calls.map(|rate| (rate.per_second, rate.burst.get())), Some((2.5, 3)));
        assert_eq!(desk.documents.map(|rate| (rate.per_second, rate.burst.get())), Some((20.0, 1000)));
        assert_eq!(desk.concurrent_calls, None);
        assert_eq!(entries.limits("job").concurrent_calls, NonZeroU32::new(4));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let desk = &key("desk", A);
        for (text, expected) in [
            (key("desk", &A[1..]), "keys.toml:3: sha256 must be 64 hexadecimal digits, not 63"),
            (key("", A), "keys.toml:2: a name is 1 to 64"),
            (key("news room", A), "keys.toml:2: a name is"),
            (key(&"x".repeat(65), A), "keys.toml:2: a name is"),
            (key("desk", A) + &key("job", A), "keys.toml:5: the same key stands at keys.toml:2 already"),
            (key("d", A) + &key("d", B) + &key("d", &A.replace('a', "c")), "keys.toml:8: \"d\" has 2 keys already"),
            (format!("{desk}expires = 2027-01-31\n"), "keys.toml:4: expires must be a date and time with its offset"),
            (format!("{desk}expires = 2027-01-31T00:00:00\n"), "keys.toml:4: expires must be"),
            (format!("{desk}expires = 2027-02-30T00:00:00Z\n"), "keys.toml:4: "),
            (format!("{desk}expires = \"soon\"\n"), "keys.toml:4: "),
            (format!("{desk}expired = true\n"), "keys.toml:4: unknown field `expired`"),
            (format!("{desk}key = \"rasid_plain\"\n"), "keys.toml:4: unknown field `key`"),
            ("[[keys]]\nname = \"desk\"\n".to_owned(), "keys.toml:1: missing field `sha256`"),
            ("[[key]]\n".to_owned(), "keys.toml:1: unknown field `key`"),
            ("keys = 3\n".to_owned(), "keys.toml:1: "),
            (format!("{desk}[limits.job]\ncalls_per_second = 1\n"), "keys.toml:4: there is no key named \"job\""),
            (format!("{desk}[limits.desk]\ncalls_per_second = 0\n"), "keys.toml:5: calls_per_second cannot be 0"),
            (format!("{desk}[limits.desk]\ncalls_per_second = nan\n"), "keys.toml:5: calls_per_second cannot be NaN"),
            (format!("{desk}[limits.desk]\ncalls_burst = 5\n"), "keys.toml:5: calls_burst needs calls_per_second"),
            (format!("{desk}[limits.desk]\nconcurrent_calls = 1.5\n"), "keys.toml:5: concurrent_calls cannot be 1.5"),
            (format!("{desk}[limits.desk]\nconcurrent_calls = -1\n"), "keys.toml:5: concurrent_calls cannot be -1"),
            (format!("{desk}[limits.desk]\nconcurrent_calls = 1e9\n"), "keys.toml:5: concurrent_calls cannot be"),
            (format!("{desk}[limits.desk]\ncalls_per_minute = 1\n"), "keys.toml:5: unknown field `calls_per_minute`"),
            (format!("{desk}[[limits.desk]]\n"), "keys.toml:4: "),
        ] {
            let error = read(&text, None).err().unwrap_or_else(|| panic!("{text}"));
            assert!(error.starts_with(expected), "{text}\n{error}");
        }
    }

    #[test]
    fn pairs_are_checked_alike() {
        for (pairs, expected) in [
            ("desk", "api_keys, entry 1: a key is written NAME=SHA256"),
            (&*format!("desk={B},job=12"), "api_keys, entry 2: sha256 must be 64 hexadecimal digits, not 2"),
            (&*format!("desk={A}"), "api_keys, entry 1: the same key stands at keys.toml:2 already"),
            (&*format!("/={B}"), "api_keys, entry 1: a name is"),
        ] {
            let error = read(&key("desk", A), Some(pairs)).err().unwrap();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_none_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let read = |path: PathBuf| Entries::read(&KeySources { file: Some(path), pairs: None }).unwrap_err();
        assert!(matches!(read(folder.path().join("none")), KeyError::Read { .. }));
        assert!(matches!(read(folder.path().to_owned()), KeyError::Read { .. }));
        let large = folder.path().join("large");
        fs::write(&large, vec![b'#'; MAX_FILE_BYTES as usize + 1]).unwrap();
        assert!(matches!(read(large), KeyError::FileTooLarge { .. }));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*", cut in 0_usize..200, insert in "[\\PC\n\\[\\]\"=.]{0,8}") {
            let _ = Entries::default().add_file(Path::new("keys.toml"), &text);
            let _ = Entries::default().add_pairs(&text);
            let good = key("desk", A) + "expires = 2027-01-31T00:00:00Z\n[limits.desk]\ncalls_per_second = 2.5\n";
            let (before, after) = good.split_at(cut.min(good.len()));
            let _ = Entries::default().add_file(Path::new("keys.toml"), &format!("{before}{insert}{after}"));
        }
    }
}
