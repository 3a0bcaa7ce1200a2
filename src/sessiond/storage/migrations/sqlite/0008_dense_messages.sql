-- Messages of a log that is mostly messages are found without an index, which every append to it would have to change.

alter table events add column dense integer;
-- Behind it no message is dense.
alter table sessions add column dense_seq integer not null default 0;

drop index events_messages;
create index events_messages on events (workspace_id, session_id, seq) where type like 'message.%' and dense is null;
