-- Takes the next number. Whoever adds an entry holds the workspace's row from here on: one after the other.
-- name: audit_next
update workspaces set audit_seq = audit_seq + 1 where id = :workspace
returning audit_seq, audit_chained, audit_hash

-- name: audit_insert
insert into audit (workspace_id, seq, at_us, actor, event, record_locator, address, result, hash)
values (:workspace, :seq, :at_us, :actor, :event, :record_locator, :address, :result, :hash)

-- name: audit_chained
update workspaces set audit_chained = :seq, audit_hash = :hash where id = :workspace

-- name: audit_chain
update audit set hash = :hash where workspace_id = :workspace and seq = :seq

-- name: audit_total
select audit_seq from workspaces where id = :workspace

-- One statement, so that the row and what stands behind it are of one moment.
-- name: audit_head
select w.audit_seq, w.audit_chained, w.audit_hash,
    (select min(a.seq) from audit a where a.workspace_id = w.id and a.seq > w.audit_seq)
from workspaces w where w.id = :workspace

-- name: audit_select
select seq, at_us, actor, event, record_locator, address, result, hash from audit

-- name: audit_list
{audit_select}
where workspace_id = :workspace and seq <= :newest
order by seq desc
limit :limit

-- name: audit_range
{audit_select}
where workspace_id = :workspace and seq >= :first and seq <= :last
order by seq
limit :limit
