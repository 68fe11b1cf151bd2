// The functions of sciml_step.h through libtorch's loader of AOTInductor packages.
#include "sciml_step.h"

#include <exception>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

struct sciml_step {
  std::unique_ptr<torch::inductor::AOTIModelPackageLoader> program;
  std::vector<std::string> inputs;  // names in their order
  int64_t latents = 0;
};

namespace {

thread_local std::string last_error;

std::vector<std::string> split(const std::string &text) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) parts.push_back(part);
  return parts;
}

// The first line: torch adds a trace of the calls.
void note(const std::string &where, const std::exception &error) {
  const std::string text = error.what();
  last_error = where + ": " + text.substr(0, text.find('\n'));
}

at::Tensor view(const float *data, std::vector<int64_t> shape, const std::string &name) {
  if (data == nullptr) throw std::invalid_argument("the program needs " + name);
  return at::from_blob(const_cast<float *>(data), shape, at::kFloat);
}

}  // namespace

sciml_step *sciml_step_load(const char *path) {
  try {
    auto step = std::make_unique<sciml_step>();
    step->program = std::make_unique<torch::inductor::AOTIModelPackageLoader>(path);
    auto about = step->program->get_metadata();
    if (about.find("input.latent") == about.end() ||
        about.find("output.latent_next") == about.end())
      throw std::invalid_argument("this is no exported step");
    step->inputs = split(about.at("inputs"));
    for (const auto &name : step->inputs) {
      auto type = about.find("input." + name + ".dtype");
      if (type == about.end() || type->second != "float32")
        throw std::invalid_argument("it does not take " + name + " in float32; export it again");
    }
    step->latents = std::stoll(split(about.at("input.latent")).at(1));
    return step.release();
  } catch (const std::exception &error) {
    note(path, error);
    return nullptr;
  }
}

int64_t sciml_step_latents(const sciml_step *step) { return step->latents; }

int sciml_step_advance(sciml_step *step, int64_t n, float *latent, const float *phys,
                       const float *phys_before, const float *dt) {
  try {
    std::vector<at::Tensor> inputs;
    for (const auto &name : step->inputs) {
      if (name == "latent") inputs.push_back(view(latent, {n, step->latents}, name));
      else if (name == "phys") inputs.push_back(view(phys, {n, 4}, name));
      else if (name == "phys_before") inputs.push_back(view(phys_before, {n, 4}, name));
      else if (name == "dt") inputs.push_back(view(dt, {n}, name));
      else throw std::invalid_argument("the program has an unknown input " + name);
    }
    auto next = step->program->run(inputs).at(0);
    inputs.front().copy_(next);
    return 0;
  } catch (const std::exception &error) {
    note("step", error);
    return 1;
  }
}

const char *sciml_step_error(void) { return last_error.c_str(); }

void sciml_step_free(sciml_step *step) { delete step; }
