-- The audit log is a chain.

-- Where it was asked from; null for what did not come over the network.
alter table audit add column address text collate "C";
alter table audit add column result text collate "C" not null default 'ok';
-- Of the hash before it and of all fields; null for an entry that is not in the chain yet.
alter table audit add column hash bytea;

-- Up to which entry the log is chained, and that entry's hash: what is missing at the end is found.
alter table workspaces add column audit_chained bigint not null default 0;
alter table workspaces add column audit_hash bytea;
-- Whether reads of sealed content are noted.
alter table workspaces add column audit_reads bigint not null default 0;

create index audit_by_event on audit (workspace_id, event, seq);
create index audit_by_actor on audit (workspace_id, actor, seq);
