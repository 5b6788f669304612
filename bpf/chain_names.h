/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * Sends the mappings that the walk has kept, with their files. This is the last step,
 * because it takes the longest and its loss does the least harm.
 */
#ifndef SEGFAULT_CHAIN_NAMES_H
#define SEGFAULT_CHAIN_NAMES_H

#include "file.h"
#include "chain.h"
#include "chain_path.h"

#define ROUND_STEPS 6		/* steps of a path in one round: most paths need only one */
#define MAX_COMPONENTS 48

/* Appends the first bytes of the mapping's file, once a file. */
static __always_inline void name_head(struct scratch *s, struct event_mapping *m, __u64 head)
{
	__u64 at = s->names.path_at;

	m->head = head;
	if (!s->names.heads || !head || head == s->names.head_sent)
		return;
	s->names.head_sent = head;
	keep(at);
	if (at > OUT_BYTES - HEAD_BYTES)
		return;
	if (bpf_probe_read_user(&s->out[at], HEAD_BYTES, (void *)head))
		return;
	m->head_bytes = HEAD_BYTES;
	s->names.path_at = at + HEAD_BYTES;
	s->out_bytes = at + HEAD_BYTES;
}

/* Begins the next mapping: writes all but its paths, which may take several rounds. */
static __always_inline void name_begin(struct scratch *s, struct event_range *entry, __u64 number)
{
	struct file *file = (void *)entry->file;
	struct event_mapping *m;
	__u64 at = s->out_bytes;

	keep(at);
	at &= OUT_BYTES - 1;
	m = (struct event_mapping *)&s->out[at];
	s->names.mapping_at = at;
	s->out_bytes = at + sizeof(*m);
	s->names.path_at = at + sizeof(*m);
	s->walk.sent++;
	s->names.lower = 0;
	s->names.layer = 0;
	__builtin_memset(m, 0, sizeof(*m));
	m->start = entry->start;
	m->end = entry->end;
	m->vm_flags = entry->vm_flags;
	if (!file)
		return;
	m->flags = MAPPING_FILE | number << FILE_NUMBER_SHIFT;
	m->page_offset = entry->page_offset;
	file_identity(m, file);
	/* Also for a mapping without code: only one mapping of a file gets the name, and the
	 * file's code may follow it. */
	name_head(s, m, entry->head);
	if (!bpf_core_field_exists(file->f_path))
		return;
	m->flags |= MAPPING_PATH;
	s->names.path = entry->file + bpf_core_field_offset(struct file, f_path);
	/* As in bpf/mappings.h: a path in another mount namespace may not exist in the tool's. */
	if (s->names.is_foreign)
		s->names.lower = s->names.path;
	if (has_user_path(file))
		if (bpf_core_field_exists(struct backing_file, user_path)) {
			s->names.lower = s->names.path;
			s->names.path = entry->file + bpf_core_field_offset(struct backing_file, user_path);
		}
}

/* Ends a path: another one follows, or the mapping is complete. */
static __always_inline void name_end(struct scratch *s)
{
	struct event_mapping *m;
	__u64 at = s->names.mapping_at, bytes = s->out_bytes - s->names.path_at;

	keep(at);
	at &= OUT_BYTES - 1;
	m = (struct event_mapping *)&s->out[at];
	s->names.dentry = 0;
	if (s->names.layer) {
		m->lower_bytes = bytes;
	} else {
		m->path_bytes = bytes;
		m->flags |= s->names.flags << 1;
		if (s->names.lower && s->out_bytes < OUT_BYTES - 2 * NAME_MAX_BYTES) {
			s->names.layer = 1;
			s->names.path = s->names.lower;
			s->names.path_at = s->out_bytes;
			return;
		}
	}
	s->out_bytes = (s->out_bytes + 7) & ~7ull;
}

enum names_result { NAMES_ON, NAMES_FULL, NAMES_END };

/* One round: begins the next mapping, or goes on with a path. */
static __always_inline int name_round(struct scratch *s)
{
	__u64 at = s->names.entry, number;

	if (!s->names.dentry && !s->names.path) {
		if (at >= s->walk.entries)
			return NAMES_END;
		if (s->out_bytes > OUT_BYTES / 2)
			return NAMES_FULL;
		s->names.entry = at + 1;
		/* First the program's own mappings, then the others from the highest address
		 * down: the loader, libc, and the libraries below them. If names are missing
		 * in the end, they are of mappings in the middle. */
		if (at >= KEPT_ENTRIES)
			at = KEPT_ENTRIES + s->walk.entries - 1 - at;
		number = at + 1;
		if (at >= KEPT_ENTRIES)
			number += s->walk.flushed;
		keep(at);
		at &= MAX_ENTRIES - 1;
		name_begin(s, &s->entries[at], number);
		if (!s->names.path)
			return NAMES_ON;
	}
	if (!s->names.dentry) {
		path_begin(s, (void *)s->names.path);
		s->names.path = 0;
		if (s->names.layer)
			s->names.mount = NOWHERE; /* no dentry is the root of this mount */
		if (!s->names.dentry)
			goto ended;
	}
	for (;;) {
		if (path_step(s))
			goto ended;
		end_round(ROUND_STEPS, round);
	}
round:
	s->names.components += ROUND_STEPS;
	if (s->names.components < MAX_COMPONENTS)
		return NAMES_ON;
	s->names.flags |= PATH_TRUNCATED;
ended:
	name_end(s);
	return NAMES_ON;
}

/* No tail call is left: ends the path where it is. */
static __always_inline void name_cut(struct scratch *s)
{
	if (!s->names.dentry && !s->names.path)
		return;
	/* A path that does not reach the root of its file system is useless. */
	if (s->names.layer)
		s->out_bytes = s->names.path_at;
	s->names.flags |= PATH_TRUNCATED;
	s->names.lower = 0;
	name_end(s);
}

static __always_inline int send_names(void *ctx, struct scratch *s, struct chain_config *c)
{
	int result;

	if (!s->out_bytes)
		s->out_bytes = sizeof(struct part);
	for (;;) {
		result = name_round(s);
		if (result != NAMES_ON)
			break;
		end_round(0, more);
	}
	if (result == NAMES_END)
		goto ended;
	send_out(ctx, s, PART_MAPPINGS, LOST_RING_MAPPINGS);
more:
	if (!is_short_of_calls(s, c, MAX_CALLS) && go_on(ctx, s, c, STEP_NAMES))
		return SEEN;
	name_cut(s);
	if (s->names.entry < s->walk.entries)
		send_entries(ctx, s);
ended:
	if (s->out_bytes > sizeof(struct part))
		send_out(ctx, s, PART_MAPPINGS, LOST_RING_MAPPINGS);
	if ((s->end.lost & LOST_THREADS_CALLS) && go_on(ctx, s, c, STEP_THREADS))
		return SEEN;
	return finish(ctx, s, c);
}

#endif
