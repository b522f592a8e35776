//! Settings: a file lies under the environment, the environment under flags, and what is wrong is told with its place.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use clap::Args;
use rasid::config::ServeSettings;
use tempfile::TempDir;

/// A folder with a settings file.
struct Settings(TempDir);

impl Settings {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("rasid.toml"), text).unwrap();
        Self(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("rasid.toml")
    }
}

fn print_config(file: Option<&Path>, environment: &[(&str, &str)], flags: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rasid"));
    command.args(["serve", "--print-config"]).args(flags);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RASID_")) {
        command.env_remove(name);
    }
    command.envs(environment.iter().copied());
    if let Some(file) = file {
        command.arg("--config").arg(file);
    }
    command.output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn failure(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}

/// The line of one setting, its spaces as one.
fn line(page: &str, name: &str) -> String {
    let line = page.lines().find(|line| line.starts_with(&format!("{name} ="))).unwrap();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_later_layer_wins_and_every_setting_says_where_it_comes_from() {
    let settings = Settings::new("# four of them\nthreads = 3\nworkers = 3\nlog = \"debug\"\nmax_in_flight = 5\n");
    let file = settings.path();
    let environment = [("RASID_WORKERS", "2"), ("RASID_LOG", "warn"), ("RASID_MAX_IN_FLIGHT", "6")];
    let page = stdout(&print_config(Some(&file), &environment, &["--log", "error"]));
    assert_eq!(line(&page, "threads"), format!("threads = 3 # {}:2", file.display()));
    assert_eq!(line(&page, "workers"), "workers = 2 # RASID_WORKERS");
    assert_eq!(line(&page, "log"), "log = \"error\" # --log");
    assert_eq!(line(&page, "max_in_flight"), "max_in_flight = 6 # RASID_MAX_IN_FLIGHT");
    assert_eq!(line(&page, "drain_seconds"), "drain_seconds = 30 # default");
}

#[test]
fn the_file_may_be_named_by_the_environment() {
    let settings = Settings::new("threads = 3");
    let path = settings.path();
    let page = stdout(&print_config(None, &[("RASID_CONFIG", path.to_str().unwrap())], &[]));
    assert!(line(&page, "threads").ends_with("rasid.toml:1"));
}

#[test]
fn what_is_printed_is_a_settings_file() {
    let page = stdout(&print_config(None, &[], &["--threads", "7", "--log-format", "json"]));
    let settings = Settings::new(&page);
    let again = stdout(&print_config(Some(&settings.path()), &[], &[]));
    let values =
        |page: &str| page.lines().map(|line| line.split('#').next().unwrap().trim().to_owned()).collect::<Vec<_>>();
    assert_eq!(values(&again), values(&page));
    assert!(again.contains("threads = 7") && again.contains("log_format = \"json\""));
}

#[test]
fn what_is_wrong_in_a_file_is_told_with_its_line() {
    for (text, expected) in [
        ("threads = 1\nthreds = 2", &["rasid.toml:2", "no setting \"threds\""][..]),
        ("threads = 4096", &["rasid.toml:1", "threads cannot be 4096", "0..=1024"]),
        ("\n\nthreads = \"many\"", &["rasid.toml:3", "threads", "many", "invalid digit"]),
        ("listen = \"nowhere\"", &["rasid.toml:1", "listen", "nowhere"]),
        ("log_format = \"xml\"", &["rasid.toml:1", "text, json"]),
        ("log = [1]", &["rasid.toml:1", "a string, a number or a boolean"]),
        ("[serve]\nthreads = 1", &["rasid.toml:1", "no setting \"serve\""]),
        ("config = \"other.toml\"", &["no setting \"config\""]),
        ("print_config = true", &["no setting \"print_config\""]),
        ("threads = 1\nthreads = 2", &["rasid.toml:2", "duplicate key"]),
        ("threads = ", &["rasid.toml:1"]),
    ] {
        let settings = Settings::new(text);
        let stderr = failure(&print_config(Some(&settings.path()), &[], &[]));
        for part in expected {
            assert!(stderr.contains(part), "{text:?}: {stderr}");
        }
    }
    assert!(failure(&print_config(Some(Path::new("no/such.toml")), &[], &[])).contains("cannot read no/such.toml"));
    let folder = tempfile::tempdir().unwrap();
    failure(&print_config(Some(folder.path()), &[], &[]));
    let binary = Settings::new("");
    fs::write(binary.path(), [0xff, 0xfe]).unwrap();
    failure(&print_config(Some(&binary.path()), &[], &[]));
}

#[test]
fn settings_that_do_not_go_together_are_told_with_their_values_and_places() {
    let settings = Settings::new("threads = 2\nadmin_listen = \"127.0.0.1:50052\"\n");
    let stderr = failure(&print_config(Some(&settings.path()), &[], &[]));
    let place = format!("admin_listen is 127.0.0.1:50052 ({}:2) and admin_keys is not set", settings.path().display());
    assert!(stderr.contains("admin_listen needs admin_keys") && stderr.contains(&place), "{stderr}");
    for (environment, flags, expected) in [
        (
            &[("RASID_TLS_CERT", "a.crt")][..],
            &[][..],
            "tls_cert and tls_key go together, but tls_cert is a.crt (RASID_TLS_CERT) and tls_key is not set",
        ),
        (&[], &["--tls-client-ca", "ca.crt"], "tls_client_ca needs tls_cert and tls_key"),
        (
            &[("RASID_MAX_REQUEST_BYTES", "1000000")],
            &["--max-held-bytes", "5999999"],
            "max_request_bytes is 1000000 (RASID_MAX_REQUEST_BYTES) and max_held_bytes is 5999999 (--max-held-bytes)",
        ),
        #[cfg(not(feature = "otlp"))]
        (&[], &["--otlp-endpoint", "http://127.0.0.1:4317"], "without the feature otlp"),
    ] {
        let stderr = failure(&print_config(None, environment, flags));
        assert!(stderr.contains(expected), "{stderr}");
    }
    stdout(&print_config(None, &[], &["--max-held-bytes", "6000000", "--max-request-bytes", "1000000"]));
}

#[test]
fn a_variable_that_is_no_setting_is_told() {
    let output = print_config(None, &[("RASID_THRAEDS", "2")], &[]);
    assert!(line(&stdout(&output), "threads").ends_with("default"));
    assert!(String::from_utf8(output.stderr).unwrap().contains("no setting for the variable RASID_THRAEDS"));
}

#[test]
fn what_is_wrong_in_the_environment_is_told_by_its_name() {
    let stderr = failure(&print_config(None, &[("RASID_THREADS", "lots")], &[]));
    assert!(stderr.contains("RASID_THREADS: threads cannot be \"lots\": invalid digit"), "{stderr}");
}

#[test]
fn what_is_wrong_on_the_command_line_is_told_by_its_flag() {
    assert!(failure(&print_config(None, &[], &["--threads", "4096"])).contains("--threads"));
}

#[test]
fn a_secret_is_not_shown_wherever_it_comes_from() {
    let hash = "5ec2e7".repeat(11);
    let pair = format!("desk={}", &hash[..64]);
    let settings = Settings::new(&format!("api_keys = \"{pair}\""));
    for (file, environment, flags, origin) in [
        (Some(settings.path()), &[][..], &[][..], "rasid.toml:1"),
        (None, &[("RASID_API_KEYS", &*pair)], &[], "RASID_API_KEYS"),
        (None, &[], &["--api-keys", &pair], "--api-keys"),
    ] {
        let page = stdout(&print_config(file.as_deref(), environment, flags));
        let line = page.lines().find(|line| line.contains("api_keys")).unwrap();
        assert!(line.starts_with("# api_keys = ********") && line.ends_with(origin), "{line}");
        assert!(!page.contains("5ec2e7"), "{page}");
    }
    let settings = Settings::new(&format!("api_keys = [\"{pair}\"]"));
    let stderr = failure(&print_config(Some(&settings.path()), &[], &[]));
    assert!(stderr.contains("rasid.toml:1: api_keys cannot be ********") && !stderr.contains("5ec2e7"), "{stderr}");
    assert!(!stdout(&print_config(None, &[("RASID_API_KEYS", &*pair)], &["--help"])).contains("5ec2e7"));
}

#[test]
fn help_needs_no_settings() {
    let output = print_config(Some(Path::new("no/such.toml")), &[], &["--help"]);
    assert!(stdout(&output).contains("--print-config"));
}

/// config/rasid.toml explains every setting as the settings themselves do; `RASID_FREEZE=1` writes it anew.
#[test]
fn the_explained_file_is_complete_and_true() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/rasid.toml");
    let expected = explained();
    if std::env::var_os("RASID_FREEZE").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    // With every setting in force it is what holds without the file.
    let in_force = |line: &str| match line.strip_prefix('#') {
        Some(setting) if setting.starts_with(|first: char| first.is_ascii_lowercase()) => format!("{setting}\n"),
        _ => format!("{line}\n"),
    };
    let settings = Settings::new(&expected.lines().map(in_force).collect::<String>());
    let values =
        |page: &str| page.lines().map(|line| line.split('#').next().unwrap().trim().to_owned()).collect::<Vec<_>>();
    let with = stdout(&print_config(Some(&settings.path()), &[], &[]));
    assert_eq!(values(&with), values(&stdout(&print_config(None, &[], &[]))));
}

const HEAD: &str = "\
# Settings of `rasid serve --config FILE`, all of them with their defaults.
#
# The environment comes before this file, flags before both; `rasid serve --print-config` prints what holds, and why.
";

fn explained() -> String {
    let mut page = HEAD.to_owned();
    for argument in ServeSettings::augment_args(clap::Command::new("serve")).get_arguments() {
        let help = argument.get_long_help().or(argument.get_help()).unwrap().to_string();
        page += "\n";
        // clap has taken the full stop away.
        for line in wrap(&format!("{help}."), 118) {
            page += &format!("# {line}\n");
        }
        let choices: Vec<_> = argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
        if !choices.is_empty() {
            page += &format!("# One of: {}.\n", choices.join(", "));
        }
        if let Some(range) = range(argument) {
            page += &format!("# Range: {range}.\n");
        }
        let (flag, variable) = (argument.get_long().unwrap(), argument.get_env().unwrap().to_str().unwrap());
        page += &format!("# Also --{flag} and {variable}.\n");
        let name = argument.get_id();
        match argument.get_default_values().first().map(|value| value.to_str().unwrap()) {
            Some(number) if number.parse::<i64>().is_ok() => {
                assert!(range(argument).is_some(), "{name} takes any number");
                page += &format!("#{name} = {number}\n");
            }
            Some(text) => page += &format!("#{name} = {text:?}\n"),
            None => page += &format!("# {name} is not set unless you set it.\n"),
        }
    }
    page
}

/// What the argument itself says when a number is too large for it.
fn range(argument: &clap::Arg) -> Option<String> {
    // Beyond what 32 bits hold, those with 32 bits say something else.
    [u64::MAX, u32::MAX.into()].into_iter().find_map(|number| {
        let flag = format!("--{}={number}", argument.get_long()?);
        let alone = clap::Command::new("").no_binary_name(true).arg(argument.clone());
        let problem = alone.try_get_matches_from([flag]).err()?.source()?.to_string();
        let (_, range) = problem.split_once(" is not in ")?;
        Some(range.replace("..=", " to "))
    })
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().unwrap();
        if !line.is_empty() && line.len() + 1 + word.len() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
