-- Has the rest of a transaction read by indexes alone, whatever the statistics say, plan for the values at hand, and take
-- one processor.
-- Params: none
-- Returns: many (done bool)
SELECT set_config(each.name, each.value, true) IS NOT NULL AS done
FROM (VALUES ('enable_seqscan', 'off'), ('enable_bitmapscan', 'off'), ('enable_hashjoin', 'off'),
             ('enable_mergejoin', 'off'), ('plan_cache_mode', 'force_custom_plan'), ('work_mem', '32MB'),
             ('max_parallel_workers_per_gather', '0')
     ) AS each (name, value)
