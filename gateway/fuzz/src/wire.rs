//! Of the wire, what reads bytes without a socket.

pub mod head;

pub mod h1 {
    //! HTTP/1.
    pub mod chunked;
    pub mod fields;
    pub mod framing;
    pub mod lines;
    pub mod request;
    pub mod response;
    pub mod trailers;
}

pub mod h2 {
    //! HTTP/2.
    pub mod guard;
}

pub use head::Framing;
