-- As on SQLite, so that both databases have the same tables. Here all messages stay in their index, which costs an append
-- little, and nothing is dense.

alter table events add column dense bigint;
alter table sessions add column dense_seq bigint not null default 0;
