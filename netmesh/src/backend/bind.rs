//! What does a listening address mean? `0.0.0.0` means all addresses of both families, as in Receptor.

use std::{future::Future, io};

/// Opens a socket on `address`, `host:port`, with `bind`. The host `0.0.0.0` means all addresses of both families, where
/// this machine has both, and otherwise those of IPv4.
///
/// # Errors
/// What `bind` says. A port that somebody has is not tried twice: half of the addresses would be theirs.
pub async fn listen_on<T, F>(address: &str, bind: impl Fn(String) -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    if let Some(port) = address.strip_prefix("0.0.0.0:") {
        match bind(format!("[::]:{port}")).await {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {} // no IPv6 on this host
            done => return done,
        }
    }
    bind(address.to_owned()).await
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// What is tried for `address` on a machine where binding to `::` ends with `of_both`.
    async fn tried(address: &str, of_both: Option<io::ErrorKind>) -> (Vec<String>, bool) {
        let tried = RefCell::new(Vec::new());
        let done = listen_on(address, |address| {
            let failed = of_both.filter(|_| address.starts_with("[::]"));
            tried.borrow_mut().push(address);
            std::future::ready(failed.map_or(Ok(()), |kind| Err(kind.into())))
        });
        let fine = done.await.is_ok();
        (tried.into_inner(), fine)
    }

    #[tokio::test]
    async fn all_addresses_are_those_of_both_families_where_there_are_two() {
        assert_eq!(tried("0.0.0.0:7", None).await, (vec!["[::]:7".to_owned()], true));
        let without = tried("0.0.0.0:7", Some(io::ErrorKind::AddrNotAvailable)).await;
        assert_eq!(without, (vec!["[::]:7".to_owned(), "0.0.0.0:7".to_owned()], true));
        assert_eq!(tried("10.0.0.1:7", None).await, (vec!["10.0.0.1:7".to_owned()], true));
    }

    #[tokio::test]
    async fn a_port_that_somebody_has_is_not_taken_by_half() {
        let taken = tried("0.0.0.0:7", Some(io::ErrorKind::AddrInUse)).await;
        assert_eq!(taken, (vec!["[::]:7".to_owned()], false));
    }
}
