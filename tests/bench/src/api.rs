//! The admin API over one connection that is kept.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
};

/// An open connection.
#[derive(Debug)]
pub struct Api {
    stream: BufReader<TcpStream>,
    token: String,
}

impl Api {
    /// Connects, and shows `token` with every call.
    ///
    /// # Errors
    ///
    /// Nobody listens there.
    pub fn at(address: SocketAddr, token: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), token: token.to_owned() })
    }

    /// Makes one call; returns the body of the answer.
    ///
    /// # Errors
    ///
    /// The connection broke, or the answer is not 200.
    pub fn call(&mut self, method: &str, path: &str, body: &str) -> io::Result<String> {
        let (length, token) = (body.len(), &self.token);
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut status = String::new();
        self.stream.read_line(&mut status)?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(text) = line.strip_prefix("content-length:") {
                length = text.trim().parse().map_err(io::Error::other)?;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        let body = String::from_utf8(body).map_err(io::Error::other)?;
        if status.starts_with("HTTP/1.1 200 ") {
            Ok(body)
        } else {
            Err(io::Error::other(format!("{}: {body}", status.trim())))
        }
    }
}
