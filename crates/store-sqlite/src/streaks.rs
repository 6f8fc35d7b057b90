//! Failure streaks of endpoints, written down from time to time.

use domain::health::Streak;
use domain::id::EndpointId;
use rusqlite::{Connection, params};

use crate::failure::Result;
use crate::ledger::Ledger;
use crate::row::Fields;

impl Ledger<'_> {
    pub(crate) fn write_streaks(&self, streaks: &[(EndpointId, Option<Streak>)]) -> Result<()> {
        let mut write = self.prepare(
            "INSERT OR REPLACE INTO streaks \
             SELECT ?1, ?2, ?3, ?4, ?5 WHERE EXISTS (SELECT 1 FROM endpoints WHERE id = ?1)",
        )?;
        let mut remove = self.prepare("DELETE FROM streaks WHERE endpoint = ?1")?;
        for (endpoint, streak) in streaks {
            match streak {
                Some(streak) => write.execute(params![
                    endpoint.to_bytes(),
                    streak.since.as_millis(),
                    streak.last_at.as_millis(),
                    streak.failures,
                    streak.warnings,
                ])?,
                None => remove.execute([endpoint.to_bytes()])?,
            };
        }
        Ok(())
    }
}

pub(crate) fn read_streaks(
    connection: &Connection,
    after: Option<EndpointId>,
    limit: usize,
) -> Result<Vec<(EndpointId, Streak)>> {
    let sql = "SELECT * FROM streaks WHERE endpoint > ?1 ORDER BY endpoint LIMIT ?2";
    let after = after.map_or_else(Vec::new, |after| after.to_bytes().to_vec());
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![after, i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let mut streaks = Vec::new();
    while let Some(row) = rows.next()? {
        let fields = Fields::new("streaks", row);
        let streak = Streak {
            since: fields.instant("since")?,
            last_at: fields.instant("last_at")?,
            failures: fields.get("failures")?,
            warnings: fields.get("warnings")?,
        };
        streaks.push((fields.id("endpoint", EndpointId::from_bytes)?, streak));
    }
    Ok(streaks)
}
