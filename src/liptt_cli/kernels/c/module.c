/* The face to Python: which kernels this processor has, and one call that runs a program on raw memory. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>

#include "kernel.h"

static const Kernel *const KERNELS[] = {
#ifdef LIPTT_X86
    &AVX512_KERNEL, &AVX2_FAST_KERNEL, &AVX2_KERNEL,
#endif
    &PORTABLE_KERNEL,
};

enum { KERNEL_COUNT = sizeof KERNELS / sizeof KERNELS[0], RUN_ARGUMENTS = 7 };

/* kernels() -> ((name, supported), ...), the quickest first. */
static PyObject *list_kernels(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    PyObject *found = PyTuple_New(KERNEL_COUNT);
    for (Py_ssize_t index = 0; found && index < KERNEL_COUNT; index++) {
        PyObject *pair = Py_BuildValue("(si)", KERNELS[index]->name, KERNELS[index]->is_supported());
        if (!pair || PyTuple_SetItem(found, index, pair)) {
            Py_DECREF(found);
            return NULL;
        }
    }
    return found;
}

/* run(kernel, block, number, tokens, input, output, threads): kernel is a place in kernels(), the rest addresses. */
static PyObject *run(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
    (void)module;
    long long numbers[RUN_ARGUMENTS];
    if (count != RUN_ARGUMENTS) return PyErr_Format(PyExc_TypeError, "run takes 7 numbers, not %zd", count);
    for (int index = 0; index < RUN_ARGUMENTS; index++) {
        numbers[index] = PyLong_AsLongLong(arguments[index]);
        if (numbers[index] == -1 && PyErr_Occurred()) return NULL;
    }
    if (numbers[0] < 0 || numbers[0] >= KERNEL_COUNT || !KERNELS[numbers[0]]->is_supported())
        return PyErr_Format(PyExc_ValueError, "no kernel number %lld on this processor", numbers[0]);
    const uint8_t *block = (const uint8_t *)(intptr_t)numbers[1];
    if (((const Program *)(const void *)block)->magic != PROGRAM_MAGIC)
        return PyErr_Format(PyExc_ValueError, "these bytes are no program");
    const Batch batch = {(const void *)(intptr_t)numbers[4], (void *)(intptr_t)numbers[5], (Number)numbers[2], numbers[3]};
    int failed;
    Py_BEGIN_ALLOW_THREADS
    failed = run_program(block, KERNELS[numbers[0]], &batch, (int)numbers[6]);
    Py_END_ALLOW_THREADS
    if (failed) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyMethodDef METHODS[] = {
    {"kernels", list_kernels, METH_NOARGS, "Return the kernels, the quickest first, and whether this processor has them."},
    {"run", (PyCFunction)(void (*)(void))run, METH_FASTCALL, "Run a program on raw memory."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_native", "Sign products on a processor.", -1, METHODS,
                                    NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void) { return PyModule_Create(&MODULE); }
