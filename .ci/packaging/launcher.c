/* bin/flyatc: run flyatc on the Python of its own folder, wherever that folder is, also through a symbolic link.
 *
 * A program and no script: a shell script needs a shell, and the first line of a Python script names its interpreter by an
 * absolute path. -I: the variables of an app ($PYTHONPATH, $PYTHONHOME) do not apply here. -S: all modules are in one
 * folder. -B: the folder may belong to another user. */

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PYTHON "/libexec/flyatc-python"

static int fail(const char *what) {
    perror(what);
    return 127;
}

int main(int argc, char **argv) {
    static char path[PATH_MAX + sizeof PYTHON];
    static char *const options[] = {path, "-I", "-S", "-B", "-m", "flyatc"};
    const size_t count = sizeof options / sizeof *options;

    ssize_t length = readlink("/proc/self/exe", path, PATH_MAX);
    if (length < 0)
        return fail("flyatc: /proc/self/exe");
    path[length] = '\0';
    for (int levels = 0; levels < 2; levels++) { /* its name, and bin */
        char *slash = strrchr(path, '/');
        if (slash != NULL)
            *slash = '\0';
    }
    strcat(path, PYTHON);

    char **arguments = calloc(count + (size_t)argc + 1, sizeof *arguments); /* argc may be 0 */
    if (arguments == NULL)
        return fail("flyatc");
    memcpy(arguments, options, sizeof options);
    for (int i = 1; i < argc; i++)
        arguments[count + (size_t)i - 1] = argv[i];
    execv(path, arguments);
    return fail(path);
}
