//! Who is turned away when something that all subscribers share runs out.
//!
//! As long as an eighth of it is free, everyone is served. In the last eighth only those are who
//! hold less than their equal share: the heaviest are refused first, and a light one still finds
//! a place.

/// Whether a subscriber that holds `own` of `limit` may take one more, when `total` are taken by
/// `holders` subscribers.
pub(super) fn admits(own: usize, total: usize, holders: usize, limit: usize) -> bool {
    let scarce = limit - limit / RESERVE;
    total < limit && (total < scarce || own < (limit / holders.max(1)).max(1))
}

/// One part in so many is kept for those who hold little.
const RESERVE: usize = 8;

#[cfg(test)]
mod tests {
    use super::admits;

    #[test]
    fn heaviest_are_refused_first_and_the_limit_holds_for_all() {
        for (own, total, holders, expected) in [
            (0, 0, 0, true),
            (60, 69, 10, true),
            // From 70 of 80 on the share of ten holders is 8.
            (60, 70, 10, false),
            (8, 70, 10, false),
            (7, 70, 10, true),
            (0, 79, 10, true),
            (0, 80, 10, false),
            // More holders than places: one each.
            (0, 75, 500, true),
            (1, 75, 500, false),
        ] {
            assert_eq!(admits(own, total, holders, 80), expected, "{own} {total} {holders}");
        }
        assert!(admits(0, 0, 0, 1) && !admits(0, 1, 1, 1));
    }

    #[test]
    fn one_flood_leaves_room_for_others() {
        let limit = 64;
        let mut flood = 0;
        let mut total = 0;
        while admits(flood, total, 2, limit) {
            flood += 1;
            total += 1;
        }
        assert_eq!(total, 56);
        assert!(admits(0, total, 2, limit));
    }
}
