/* Advances 10,000 cells by some steps and writes their latents: advance STEP.pt2 [OUT.bin] */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "sciml_step.h"

enum { CELLS = 10000, STEPS = 5 };
static const double PI = 3.14159265358979323846;

/* A cloud that contracts; every cell starts from another density. */
static void conditions(int step, float *phys) {
  for (int cell = 0; cell < CELLS; cell++) {
    double depth = (double)cell / CELLS + 0.1 * step;
    phys[4 * cell + 0] = (float)pow(10.0, 3.0 + 2.0 * depth);
    phys[4 * cell + 1] = (float)pow(10.0, -0.5 * depth);
    phys[4 * cell + 2] = (float)pow(10.0, 0.5 + 0.5 * depth);
    phys[4 * cell + 3] = (float)(10.0 + 20.0 / (1.0 + depth));
  }
}

int main(int count, char **words) {
  if (count < 2) {
    fprintf(stderr, "usage: advance STEP.pt2 [OUT.bin]\n");
    return 2;
  }
  sciml_step *chemistry = sciml_step_load(words[1]);
  if (chemistry == NULL) {
    fprintf(stderr, "advance: %s\n", sciml_step_error());
    return 1;
  }
  int64_t latents = sciml_step_latents(chemistry);
  float *latent = malloc(sizeof(float) * CELLS * latents);
  float *phys = malloc(sizeof(float) * CELLS * 4);
  float *before = malloc(sizeof(float) * CELLS * 4);
  float *dt = malloc(sizeof(float) * CELLS);
  for (int64_t cell = 0; cell < CELLS; cell++) {
    dt[cell] = 1e4f;
    for (int64_t i = 0; i < latents; i++)
      latent[cell * latents + i] = (float)sin(PI * (double)(cell + 1) * (double)(i + 1) / CELLS);
  }

  conditions(0, before);
  for (int step = 0; step < STEPS; step++) {
    conditions(step, phys);
    if (sciml_step_advance(chemistry, CELLS, latent, phys, before, dt) != 0) {
      fprintf(stderr, "advance: %s\n", sciml_step_error());
      return 1;
    }
    float *kept = before;
    before = phys;
    phys = kept;
  }

  double sum = 0.0;
  for (int64_t i = 0; i < CELLS * latents; i++) sum += latent[i];
  printf("%d cells, %d steps, sum of %lld latents %.6f\nfirst cell:", CELLS, STEPS,
         (long long)(CELLS * latents), sum);
  for (int64_t i = 0; i < latents; i++) printf(" %.6f", latent[i]);
  printf("\n");
  if (count > 2) {
    FILE *file = fopen(words[2], "wb");
    if (file == NULL || fwrite(latent, sizeof(float), CELLS * latents, file) == 0 ||
        fclose(file) != 0) {
      fprintf(stderr, "advance: %s cannot be written\n", words[2]);
      return 1;
    }
  }
  free(latent), free(phys), free(before), free(dt);
  sciml_step_free(chemistry);
  return 0;
}
