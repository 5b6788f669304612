/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * The identity of a file, and which of its paths the program saw.
 */
#ifndef SEGFAULT_FILE_H
#define SEGFAULT_FILE_H

#include "common.h"

#define FMODE_NOACCOUNT_BACKING (1u << 29)
#define FMODE_BACKING (3u << 24)

/* Size, time, inode and device: they distinguish this file from a later one of its name. */
static __always_inline void file_identity(struct event_mapping *m, struct file *file)
{
	struct inode *inode = read_if_there(file, f_inode);
	struct inode___before_6_11 *newer = (void *)inode;
	struct inode___before_6_7 *older = (void *)inode;

	m->inode = read_if_there(inode, i_ino);
	if (bpf_core_field_exists(inode->i_sb))
		m->device = BPF_CORE_READ(inode, i_sb, s_dev);
	m->file_size = read_if_there(inode, i_size);
	if (bpf_core_field_exists(inode->i_mtime_sec) && bpf_core_field_exists(inode->i_mtime_nsec)) {
		m->mtime_s = BPF_CORE_READ(inode, i_mtime_sec);
		m->mtime_ns = BPF_CORE_READ(inode, i_mtime_nsec);
	}
	if (bpf_core_field_exists(newer->__i_mtime)) {
		m->mtime_s = BPF_CORE_READ(newer, __i_mtime.tv_sec);
		m->mtime_ns = BPF_CORE_READ(newer, __i_mtime.tv_nsec);
	}
	if (bpf_core_field_exists(older->i_mtime)) {
		m->mtime_s = BPF_CORE_READ(older, i_mtime.tv_sec);
		m->mtime_ns = BPF_CORE_READ(older, i_mtime.tv_nsec);
	}
}

/* Whether this is the lower file of one on an overlay, whose path the program saw. */
static __always_inline int has_user_path(struct file *file)
{
	__u32 mode;

	if (!bpf_core_field_exists(struct backing_file, user_path))
		return 0;
	mode = BPF_CORE_READ(file, f_mode);
	return (mode & FMODE_NOACCOUNT_BACKING) && (mode & FMODE_BACKING);
}

#endif
