/* One step of a chemistry emulator for a hydrodynamics code in C or Fortran.
 *
 * The file is what `sciml export CKPT --out step.pt2 --format aoti --what step` writes. Arrays are
 * float32, as the program has to be, and contiguous; cell i has the numbers i*k ... i*k + k - 1 of
 * an array with k columns.
 *
 *   latent       n x latents   state of the chemistry, advected like any passive quantity
 *   phys         n x 4         conditions that act during the step: H nuclei per cm3,
 *                              Habing field, visual extinction in mag, gas temperature in K
 *   phys_before  n x 4         those of the step before (of the same one at the start)
 *   dt           n             length of the step in years
 *
 * phys_before and dt are NULL where the network does not know them; step.pt2.json says so.
 */
#ifndef SCIML_STEP_H
#define SCIML_STEP_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sciml_step sciml_step;

/* Opens a program; NULL on failure, see sciml_step_error. Free it with sciml_step_free. */
sciml_step *sciml_step_load(const char *path);

/* Numbers of one cell's state. */
int64_t sciml_step_latents(const sciml_step *step);

/* Advances n cells in place; 0 if all went well, see sciml_step_error. */
int sciml_step_advance(sciml_step *step, int64_t n, float *latent, const float *phys,
                       const float *phys_before, const float *dt);

/* What went wrong last in this thread. */
const char *sciml_step_error(void);

void sciml_step_free(sciml_step *step);

#ifdef __cplusplus
}
#endif

#endif
