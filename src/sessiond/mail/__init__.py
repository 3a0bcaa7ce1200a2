"""Mail coming in by SMTP: `listener.py` says who may send what to whom, `smtp.py` is one client's connection."""
