/* silent_files DIRECTORY FILE...: mounts a file system on DIRECTORY that has these files, by
 * FUSE and without a library, and serves it. Obeys the bytes on its standard input:
 *
 *	s	answers nothing from now on
 *	r	answers everything but reads
 *	a	answers all that has waited, and everything from now on
 *
 * and writes each of them to its standard output once that is so. What it leaves unanswered it
 * has read before, so that whoever waits cannot be killed. At the end of its input it
 * unmounts the file system and ends. Needs root.
 *
 * The protocol is that of include/uapi/linux/fuse.h; names and attributes are to be asked for
 * each time. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST_BYTES (1 << 20)
#define MOST_WAITING 1024
/* The root; the files follow. */
#define FIRST (FUSE_ROOT_ID + 1)

static int device;
static int files;
static char **paths;
static char mode = 'a';
static char *waiting[MOST_WAITING];
static int waits;

static const char *base(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static void answer(uint64_t unique, int error, const void *bytes, size_t length)
{
	struct fuse_out_header out = {
		.len = sizeof(out) + (error ? 0 : length),
		.error = -error,
		.unique = unique,
	};
	struct iovec parts[] = { { &out, sizeof(out) }, { (void *)bytes, error ? 0 : length } };

	/* Whoever asked may be gone. */
	if (writev(device, parts, 2) < 0 && errno != ENOENT)
		perror("silent_files: answer");
}

static int attributes(uint64_t node, struct fuse_attr *attr)
{
	struct stat status;

	memset(attr, 0, sizeof(*attr));
	attr->ino = node;
	if (node == FUSE_ROOT_ID) {
		attr->mode = S_IFDIR | 0755;
		attr->nlink = 2;
		return 0;
	}
	if (node < FIRST || node >= FIRST + (uint64_t)files || stat(paths[node - FIRST], &status))
		return ENOENT;
	attr->mode = S_IFREG | 0755;
	attr->nlink = 1;
	attr->size = status.st_size;
	attr->blksize = 4096;
	return 0;
}

static void look_up(uint64_t unique, const char *name)
{
	struct fuse_entry_out entry = { 0 };

	for (int i = 0; i < files; i++) {
		if (strcmp(base(paths[i]), name))
			continue;
		entry.nodeid = FIRST + i;
		answer(unique, attributes(entry.nodeid, &entry.attr), &entry, sizeof(entry));
		return;
	}
	answer(unique, ENOENT, NULL, 0);
}

static void read_file(uint64_t unique, uint64_t node, const struct fuse_read_in *in)
{
	static char bytes[MOST_BYTES];
	size_t most = in->size < sizeof(bytes) ? in->size : sizeof(bytes);
	int file = open(paths[node - FIRST], O_RDONLY | O_CLOEXEC);
	ssize_t count = file < 0 ? -1 : pread(file, bytes, most, in->offset);

	answer(unique, count < 0 ? EIO : 0, bytes, count < 0 ? 0 : count);
	if (file >= 0)
		close(file);
}

static void obey(char *request)
{
	const struct fuse_in_header *in = (void *)request;
	const void *body = request + sizeof(*in);
	struct fuse_init_out init = {
		.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION,
		.max_readahead = 1 << 16,
		.max_write = 1 << 16,
	};
	struct fuse_attr_out attr = { 0 };
	struct fuse_open_out opened = { 0 };
	struct fuse_statfs_out system = { .st = { .bsize = 4096, .namelen = 255 } };

	switch (in->opcode) {
	case FUSE_INIT:
		if (((const struct fuse_init_in *)body)->minor < init.minor)
			init.minor = ((const struct fuse_init_in *)body)->minor;
		answer(in->unique, 0, &init, sizeof(init));
		break;
	case FUSE_LOOKUP:
		look_up(in->unique, body);
		break;
	case FUSE_GETATTR:
		answer(in->unique, attributes(in->nodeid, &attr.attr), &attr, sizeof(attr));
		break;
	case FUSE_OPEN:
	case FUSE_OPENDIR:
		answer(in->unique, 0, &opened, sizeof(opened));
		break;
	case FUSE_READ:
		read_file(in->unique, in->nodeid, body);
		break;
	case FUSE_STATFS:
		answer(in->unique, 0, &system, sizeof(system));
		break;
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
	case FUSE_FLUSH:
		answer(in->unique, 0, NULL, 0);
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		break;
	default:
		answer(in->unique, ENOSYS, NULL, 0);
	}
}

static void take(void)
{
	static char request[MOST_BYTES];
	ssize_t length = read(device, request, sizeof(request));
	const struct fuse_in_header *in = (void *)request;

	if (length < (ssize_t)sizeof(*in))
		return;
	if ((mode == 's' || (mode == 'r' && in->opcode == FUSE_READ)) && waits < MOST_WAITING) {
		waiting[waits] = malloc(length);
		memcpy(waiting[waits++], request, length);
		return;
	}
	obey(request);
}

int main(int argc, char **argv)
{
	char options[128], byte;

	if (argc < 3)
		return 126;
	paths = argv + 2;
	files = argc - 2;
	device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (device < 0) {
		perror("/dev/fuse");
		return 125;
	}
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", device);
	if (mount("silent_files", argv[1], "fuse.silent", MS_NOSUID | MS_NODEV, options)) {
		perror("mount");
		return 125;
	}
	for (;;) {
		struct pollfd from[] = { { .fd = device, .events = POLLIN }, { .fd = 0, .events = POLLIN } };

		if (poll(from, 2, -1) < 0)
			continue;
		if (from[0].revents & POLLIN)
			take();
		if (!(from[1].revents & (POLLIN | POLLHUP)))
			continue;
		if (read(0, &byte, 1) != 1)
			break;
		mode = byte;
		for (int i = 0; mode == 'a' && i < waits; i++)
			obey(waiting[i]);
		if (mode == 'a')
			waits = 0;
		if (write(1, &byte, 1) != 1)
			break;
	}
	umount2(argv[1], MNT_DETACH);
	return 0;
}
