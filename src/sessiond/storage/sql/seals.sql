-- name: seal_key_destroy
delete from seal_keys where workspace_id = :workspace and session_id = :session and session_id is not null
returning id
