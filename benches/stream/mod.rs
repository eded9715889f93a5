//! A connection in memory, for libraries that read and write by themselves.

use std::hint::black_box;
use std::io::{self, IoSlice, Read, Write};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A peer that says the same again and again, and takes whatever it is sent.
#[derive(Debug)]
pub(crate) struct Stream {
    said: Vec<u8>,
    /// How much a read finds at most, counted from where `said` begins.
    arrival_len: usize,
    at: usize,
}

impl Stream {
    /// A peer of which at most `arrival_len` bytes arrive at a time.
    pub(crate) fn new(said: Vec<u8>, arrival_len: usize) -> Self {
        Self { said, arrival_len, at: 0 }
    }

    /// What arrives next, as much of it as there is room for.
    fn arrive(&mut self, room: usize) -> &[u8] {
        let arrival = self.arrival_len - self.at % self.arrival_len;
        let start = self.at;
        let end = (start + arrival.min(room)).min(self.said.len());
        self.at = if end == self.said.len() { 0 } else { end };
        &self.said[start..end]
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.arrive(buffer.len());
        buffer[..bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(black_box(bytes).len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        buffer.put_slice(self.get_mut().arrive(buffer.remaining()));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.get_mut().write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(slices.iter().map(|slice| black_box(&**slice).len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What a future gives that has nothing to wait for.
pub(crate) fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing in memory makes one wait"),
    }
}
