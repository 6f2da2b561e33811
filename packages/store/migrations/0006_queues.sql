-- Queues that an operator has paused. Not a column of `queues`: those rows come and go with promotions, a pause stays.
-- compatible-with: 0005
create table paused_queues (
  environment_id uuid not null references environments,
  name text not null,
  paused_at timestamptz not null default now(),
  primary key (environment_id, name)
);
