-- name: audit_next
update workspaces set audit_seq = audit_seq + 1 where id = :workspace returning audit_seq

-- name: audit_insert
insert into audit (workspace_id, seq, at_us, actor, event, record_locator)
values (:workspace, :seq, :at_us, :actor, :event, :record_locator)

-- name: audit_total
select audit_seq from workspaces where id = :workspace

-- name: audit_list
select seq, at_us, actor, event, record_locator from audit
where workspace_id = :workspace and seq <= :newest
order by seq desc
limit :limit
