-- Sessions that may have messages which are not indexed, of all workspaces, from behind one; and up to where they are: 0
-- for not at all, -1 when that is another session's, deleted since, of the same id.
-- name: search_to_index
{search_to_index_select}
where s.to_index = 1 and (s.workspace_id, s.updated_slot, s.id) > (:workspace, :slot, :id)
order by s.workspace_id, s.updated_slot, s.id limit :limit

-- Of one workspace, those that have, the last updated first, among so many that may.
-- name: search_tails
select w.workspace_id, w.id, w.updated_slot, w.created_at_us, w.last_seq, w.log_bytes, w.largest_bytes, w.indexed_seq
from (
    {search_to_index_select}
    where s.to_index = 1 and s.workspace_id = :workspace
        and (cast(:session as text) is null or s.id = :session)
        and (cast(:user as text) is null or s.user_id = :user) and (cast(:agent as text) is null or s.agent_id = :agent)
    order by s.updated_slot desc, s.id desc limit :limit
) w
where w.last_seq > w.indexed_seq
order by w.updated_slot desc, w.id desc

-- All that a search begins with, at one moment: a row for each segment, and one without when there is none.
-- name: search_opening
select s.key_id, s.key_changing,
    (select count(*) from (select 1 from sessions where to_index = 1 and workspace_id = :workspace limit :limit) w),
    g.id, g.key_id, g.docs, g.bits, g.oldest, g.newest, g.dirty
from workspaces s
left join search_segments g on g.workspace_id = s.id and g.gone_at_us is null
where s.id = :workspace
order by g.newest desc, g.id desc

-- name: search_to_index_select
select s.workspace_id, s.id, s.updated_slot, s.created_at_us, s.last_seq, s.log_bytes, s.largest_bytes,
    coalesce((select case when p.created_at_us = s.created_at_us then p.seq else -1 end from search_progress p
        where p.workspace_id = s.workspace_id and p.session_id = s.id), 0) as indexed_seq
from sessions s

-- What is not indexed of all workspaces. Events that are no messages are counted too.
-- name: search_lag
select count(*), cast(coalesce(sum(w.behind), 0) as bigint), min(w.updated_at_us)
from (
    select s.updated_at_us, s.last_seq - coalesce((select p.seq from search_progress p
        where p.workspace_id = s.workspace_id and p.session_id = s.id and p.created_at_us = s.created_at_us), 0) as behind
    from sessions s
    where s.to_index = 1 and (cast(:workspace as text) is null or s.workspace_id = :workspace)
    limit :limit
) w
where w.behind > 0

-- name: search_quiet
update sessions set to_index = 0
where workspace_id = :workspace and id = :id and last_seq = :seq and to_index = 1 and updated_slot <= :slot

-- name: search_again
update sessions set to_index = 1 where workspace_id = :workspace and id = :session and to_index = 0

-- name: search_owner
select owner, until_us, version from search_workspaces where workspace_id = :workspace

-- name: search_lock
select version, next_segment from search_workspaces where workspace_id = :workspace

-- name: search_begin
insert into search_workspaces (workspace_id, owner, until_us, version, next_segment) values (:workspace, '', 0, 0, 1)
on conflict (workspace_id) do nothing

-- name: search_own
update search_workspaces set owner = :owner, until_us = :until_us where workspace_id = :workspace

-- name: search_change
update search_workspaces set version = version + 1, next_segment = next_segment + :segments
where workspace_id = :workspace

-- name: search_allocate
update search_workspaces set next_segment = next_segment + 1 where workspace_id = :workspace

-- name: search_progress_put
insert into search_progress (workspace_id, session_id, created_at_us, seq) values (:workspace, :id, :at_us, :seq)
on conflict (workspace_id, session_id) do update set created_at_us = excluded.created_at_us, seq = excluded.seq

-- name: search_progress_drop
delete from search_progress where workspace_id = :workspace and session_id = :session

-- name: search_docs_insert
insert into search_docs (workspace_id, doc, session_id, seq, created_at_us, key_id)
values (:workspace, :doc, :id, :seq, :at_us, :key)

-- name: search_docs_drop
delete from search_docs where workspace_id = :workspace and doc in (
    select doc from search_docs where workspace_id = :workspace and session_id = :session order by doc limit :limit
)
returning doc

-- name: search_docs_between
select doc from search_docs
where workspace_id = :workspace and doc >= :oldest and doc <= :newest and key_id = :key

-- name: search_docs_of_session
select doc from search_docs
where workspace_id = :workspace and session_id = :session and doc <= :newest
order by doc desc limit :limit

-- In the order of `core.postings.Segment`.
-- name: search_segment_select
select id, key_id, docs, bits, oldest, newest, dirty from search_segments

-- name: search_segments
{search_segment_select}
where workspace_id = :workspace and gone_at_us is null
order by newest desc, id desc

-- name: search_segment_insert
insert into search_segments (workspace_id, id, key_id, docs, bits, oldest, newest, dirty, gone_at_us)
values (:workspace, :id, :key_id, :docs, :bits, :oldest, :newest, 0, :gone_at_us)

-- name: search_segment_begins
update search_segments set gone_at_us = null, docs = :docs, oldest = :oldest, newest = :newest
where workspace_id = :workspace and id = :id
returning id

-- name: search_segment_goes
update search_segments set gone_at_us = :at_us
where workspace_id = :workspace and id = :id and gone_at_us is null and dirty = :dirty
returning id

-- name: search_segments_touched
update search_segments set dirty = 1
where workspace_id = :workspace and oldest <= :newest and newest >= :oldest and gone_at_us is null

-- name: search_segment_dirty
select workspace_id, id from search_segments
where dirty = 1 and gone_at_us is null and (workspace_id, id) > (:workspace, :id)
order by workspace_id, id limit 1

-- name: search_segment_gone
select workspace_id, id from search_segments where gone_at_us < :before_us and gone_at_us is not null
order by gone_at_us limit 1

-- name: search_segment_drop
delete from search_segments where workspace_id = :workspace and id = :id

-- name: search_postings_insert
insert into search_postings (workspace_id, segment, bucket, entries) values (:workspace, :segment, :bucket, :entries)

-- name: search_bucket
select entries from search_postings where workspace_id = :workspace and segment = :segment and bucket = :bucket

-- name: search_postings_range
select entries from search_postings
where workspace_id = :workspace and segment = :segment and bucket >= :first and bucket < :last
order by bucket

-- name: search_postings_drop
delete from search_postings where workspace_id = :workspace and segment = :segment and bucket in (
    select bucket from search_postings where workspace_id = :workspace and segment = :segment order by bucket limit :limit
)
returning bucket

-- name: search_name_insert
insert into search_names (workspace_id, token, session_id) values (:workspace, :token, :session)
on conflict (workspace_id, token, session_id) do nothing

-- name: search_names_drop
delete from search_names where workspace_id = :workspace and session_id = :session

-- name: search_names_select
select n.session_id from search_names n
