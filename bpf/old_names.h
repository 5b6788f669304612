/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * The mappings that the walk has kept, with their files: last of all, because it
 * takes the most and is missed the least.
 */
#ifndef SEGFAULT_OLD_NAMES_H
#define SEGFAULT_OLD_NAMES_H

#include "file.h"
#include "old.h"
#include "old_path.h"

#define ROUND_STEPS 6		/* of a path a round: most paths end in one */
#define MAX_COMPONENTS 48

/* Begins the next mapping: all but its path, which may take several rounds. */
static __always_inline void name_begin(struct scratch *s, struct event_range *entry)
{
	struct file *file = (void *)entry->file;
	struct event_mapping *m;
	const void *path;
	__u64 at = s->out_bytes;

	keep(at);
	at &= OUT_BYTES - 1;
	m = (struct event_mapping *)&s->out[at];
	s->names.record_at = at;
	s->out_bytes = at + sizeof(*m);
	s->names.path_at = at + sizeof(*m);
	s->walk.sent++;
	s->names.dentry = 0;
	__builtin_memset(m, 0, sizeof(*m));
	m->start = entry->start;
	m->end = entry->end;
	m->vm_flags = entry->vm_flags;
	if (!file)
		return;
	m->flags = MAPPING_FILE;
	m->page_offset = entry->page_offset;
	file_identity(m, file);
	if (!bpf_core_field_exists(file->f_path))
		return;
	m->flags = MAPPING_FILE | MAPPING_PATH;
	path = (void *)file + bpf_core_field_offset(struct file, f_path);
	if (has_user_path(file))
		if (bpf_core_field_exists(struct backing_file, user_path))
			path = (void *)file + bpf_core_field_offset(struct backing_file, user_path);
	path_begin(s, path);
}

/* The path is read: completes its mapping. */
static __always_inline void name_end(struct scratch *s)
{
	struct event_mapping *m;
	__u64 at = s->names.record_at;

	keep(at);
	at &= OUT_BYTES - 1;
	m = (struct event_mapping *)&s->out[at];
	m->path_bytes = s->out_bytes - s->names.path_at;
	m->flags |= s->names.flags << 1;
	s->out_bytes = (s->out_bytes + 7) & ~7ull;
	s->names.dentry = 0;
}

/* Another mapping begun, or a path gone on with; nonzero when all are done. */
static __always_inline int name_round(void *ctx, struct scratch *s)
{
	if (!s->names.dentry) {
		__u64 at = s->names.entry;

		if (at >= s->walk.entries)
			return 1;
		s->names.entry = at + 1;
		if (s->out_bytes > OUT_BYTES / 2)
			send_out(ctx, s, PART_MAPPINGS, LOST_RING_MAPPINGS);
		if (!s->out_bytes)
			s->out_bytes = sizeof(struct part);
		keep(at);
		at &= MAX_ENTRIES - 1;
		name_begin(s, &s->entries[at]);
		if (!s->names.dentry)
			return 0;
	}
	for (;;) {
		if (path_step(s)) {
			name_end(s);
			return 0;
		}
		end_round(ROUND_STEPS, round);
	}
round:
	s->names.components += ROUND_STEPS;
	if (s->names.components >= MAX_COMPONENTS) {
		s->names.flags |= PATH_TRUNCATED;
		name_end(s);
	}
	return 0;
}

/* What the walk has kept, as it is: where they are is still to be had. */
static __always_inline void send_unnamed(void *ctx, struct scratch *s)
{
	__u64 bytes = sizeof(struct part) + s->walk.entries * sizeof(struct event_range);

	s->unnamed.kind = PART_RANGES;
	s->unnamed.size = bytes;
	s->unnamed.id = s->header.part.id;
	s->end.lost |= LOST_NAMES;
	send(ctx, s, &s->unnamed, bounded(bytes, OUT_BYTES), LOST_RING_MAPPINGS);
}

static __always_inline int send_names(void *ctx, struct scratch *s, struct old_config *c)
{
	for (;;) {
		if (name_round(ctx, s))
			goto ended;
		end_round(0, more);
	}
more:
	go_on(ctx, s, STEP_NAMES);
	/* No call is left. */
	if (s->names.dentry) {
		s->names.flags |= PATH_TRUNCATED;
		name_end(s);
	}
	if (s->names.entry < s->walk.entries)
		send_unnamed(ctx, s);
ended:
	if (s->out_bytes)
		send_out(ctx, s, PART_MAPPINGS, LOST_RING_MAPPINGS);
	return finish(ctx, s, c);
}

#endif
