//! The versions, and how one is agreed on.

/// A version of the protocol.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Version {
    /// 1.0: no escapes, no heart-beats, no NACK.
    V1_0,
    /// 1.1: `\n`, `\c` and `\\` are escapes.
    V1_1,
    /// 1.2: `\r` is one more, and lines may end with CR LF.
    V1_2,
}

/// The WebSocket subprotocols of the versions, the best first.
pub const SUBPROTOCOLS: [&str; 3] = ["v12.stomp", "v11.stomp", "v10.stomp"];

impl Version {
    /// The highest version that `accept_version` of a CONNECT names and that we know, whatever the order. Blanks around
    /// the commas are let pass. Without that header it is 1.0.
    ///
    /// ```
    /// use ringsock::proto::stomp::Version;
    ///
    /// assert_eq!(Version::negotiate(Some("1.0, 1.2,1.1,7.3")), Some(Version::V1_2));
    /// assert_eq!(Version::negotiate(None), Some(Version::V1_0));
    /// assert_eq!(Version::negotiate(Some("2.0")), None);
    /// ```
    #[must_use]
    pub fn negotiate(accept_version: Option<&str>) -> Option<Self> {
        let Some(list) = accept_version else { return Some(Self::V1_0) };
        list.split(',').filter_map(|version| Self::parse(version.trim_matches([' ', '\t']))).max()
    }

    /// Reads the value of the header `version`.
    #[must_use]
    pub fn parse(version: &str) -> Option<Self> {
        match version {
            "1.0" => Some(Self::V1_0),
            "1.1" => Some(Self::V1_1),
            "1.2" => Some(Self::V1_2),
            _ => None,
        }
    }

    /// The value of the header `version`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1_0 => "1.0",
            Self::V1_1 => "1.1",
            Self::V1_2 => "1.2",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(accept_version: &str, expect: Option<Version>) {
        assert_eq!(Version::negotiate(Some(accept_version)), expect, "{accept_version:?}");
    }

    /// Items 43 to 45 of the checklist of brokers: none is 1.0, the highest common one wins, blanks are let pass.
    #[test]
    fn the_highest_common_version_wins_whatever_the_order() {
        check("1.2,1.1,1.0", Some(Version::V1_2));
        check("1.0,1.1,1.2", Some(Version::V1_2));
        check("1.1, 1.2", Some(Version::V1_2));
        check("1.0 ,\t1.1", Some(Version::V1_1));
        check("1.0", Some(Version::V1_0));
        check("9.9,1.1,", Some(Version::V1_1));
    }

    #[test]
    fn unknown_versions_alone_are_no_version() {
        for list in ["", "2.0", "1", "1.20", "1.2.", "v1.2", "1.2;1.1", "1 .2"] {
            check(list, None);
        }
    }
}
