-- What SQLite says differently.

-- SQLite has no arrays: JSON is its way to pass rows. `where true` tells its parser that the `on` is no join's.
-- name: count_add
insert into session_counts (workspace_id, field, value, shard, n)
select value ->> 0, value ->> 1, value ->> 2, 0, value ->> 3 from json_each(:rows) where true
on conflict (workspace_id, field, value, shard) do update set n = n + excluded.n
