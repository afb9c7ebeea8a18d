//! Commands that speak to a running gateway: which one, and how to reach it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::{
    client::{Answer, Client, ClientError},
    config::{Config, ConfigError},
    report,
};

/// Which gateway.
#[derive(Debug, Args)]
pub(super) struct Node {
    /// The gateway.toml of a node on this machine.
    #[arg(long, value_name = "FILE", default_value = "/etc/postern/gateway.toml")]
    config: PathBuf,
    /// The admin address of any node: http://127.0.0.1:9180 or https://HOST:PORT.
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    admin: Option<String>,
    /// The file with the admin token, if the address is given.
    #[arg(long, value_name = "FILE", requires = "admin")]
    token_file: Option<PathBuf>,
    /// The certificate authority of the node, if the address is given as https://.
    #[arg(long, value_name = "FILE", requires = "admin")]
    ca: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum Format {
    /// To read.
    #[default]
    Text,
    /// One object.
    Json,
}

/// What is asked of the node.
#[derive(Clone, Debug)]
pub(super) enum Question {
    Delete(String),
    Get(String),
    Post(String, Vec<u8>),
}

impl Node {
    /// Asks the node; a line that says why it could not be asked.
    pub(super) fn ask(&self, question: Question) -> Result<Answer, String> {
        let client = self.client()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("error: cannot start: {error}"))?;
        let answer = runtime.block_on(async {
            match question {
                Question::Delete(path) => client.delete(&path).await,
                Question::Get(path) => client.get(&path).await,
                Question::Post(path, body) => client.post(&path, body.into()).await,
            }
        });
        answer.map_err(|error| line(&error))
    }

    fn client(&self) -> Result<Client, String> {
        let Self { config, admin, token_file, ca } = self;
        if let Some(url) = admin {
            return Client::to(url, ca.as_deref(), token_file.as_deref())
                .map_err(|error| line(&error));
        }
        match Config::load(config) {
            Ok((config, _)) => Client::of(&config.admin).map_err(|error| line(&error)),
            Err(error) => {
                if let ConfigError::Invalid { text, diagnostics, .. } = &error {
                    report::diagnostics_to_stderr(diagnostics, text);
                }
                Err(format!("error: {}", report::with_causes(&error)))
            }
        }
    }
}

/// What an error of the admin API says, on one line.
pub(super) fn problem(answer: &Answer) -> String {
    let Answer { status, body } = answer;
    let part = |key: &str| body.get(key).and_then(|value| value.as_str());
    match (part("title"), part("detail")) {
        (Some(title), Some(detail)) => format!("{title}: {detail}"),
        (_, _) => format!("the node answered {status}"),
    }
}

fn line(error: &ClientError) -> String {
    format!("error: {}", report::with_causes(error))
}
