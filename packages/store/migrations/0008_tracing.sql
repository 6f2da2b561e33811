-- Traces: the span that a run came from, so that what becomes of it joins the trace of whoever started it.
-- compatible-with: 0005

-- A W3C traceparent (55 characters); null: nobody sent one and this installation does not trace.
alter table runs add column trace_context text;
