! Advances 10,000 cells by some steps and writes their latents: advance_fortran STEP.pt2 [OUT.bin]
! Arrays are (column, cell): the first index runs fastest, as the columns do in sciml_step.h.
module sciml_step
  use, intrinsic :: iso_c_binding
  implicit none

  interface
    function sciml_step_load(path) bind(c) result(step)
      import :: c_ptr, c_char
      character(kind=c_char), intent(in) :: path(*)
      type(c_ptr) :: step
    end function

    function sciml_step_latents(step) bind(c) result(latents)
      import :: c_ptr, c_int64_t
      type(c_ptr), value :: step
      integer(c_int64_t) :: latents
    end function

    ! an absent phys_before or dt is NULL in C
    function sciml_step_advance(step, n, latent, phys, phys_before, dt) bind(c) result(failed)
      import :: c_ptr, c_int, c_int64_t, c_float
      type(c_ptr), value :: step
      integer(c_int64_t), value :: n
      real(c_float), intent(inout) :: latent(*)
      real(c_float), intent(in) :: phys(*)
      real(c_float), intent(in), optional :: phys_before(*), dt(*)
      integer(c_int) :: failed
    end function

    ! a string of C
    function sciml_step_error() bind(c) result(text)
      import :: c_ptr
      type(c_ptr) :: text
    end function

    subroutine sciml_step_free(step) bind(c)
      import :: c_ptr
      type(c_ptr), value :: step
    end subroutine

    function strlen(text) bind(c) result(length)
      import :: c_ptr, c_size_t
      type(c_ptr), value :: text
      integer(c_size_t) :: length
    end function
  end interface

contains

  ! What went wrong last in this thread.
  function last_error() result(text)
    character(len=:), allocatable :: text
    character(kind=c_char), pointer :: letters(:)
    type(c_ptr) :: address
    integer :: i
    address = sciml_step_error()
    call c_f_pointer(address, letters, [strlen(address)])
    allocate(character(len=size(letters)) :: text)
    do i = 1, size(letters)
      text(i:i) = letters(i)
    end do
  end function
end module

program advance
  use sciml_step
  use, intrinsic :: iso_fortran_env, only: error_unit, real64
  implicit none
  integer, parameter :: cells = 10000, steps = 5
  real(real64), parameter :: pi = 3.14159265358979323846_real64
  character(len=1024) :: word
  type(c_ptr) :: chemistry
  integer :: cell, i, step, latents, unit
  real(c_float), allocatable :: latent(:, :), phys(:, :), before(:, :), dt(:)

  if (command_argument_count() < 1) error stop "usage: advance_fortran STEP.pt2 [OUT.bin]"
  call get_command_argument(1, word)
  chemistry = sciml_step_load(trim(word) // c_null_char)
  if (.not. c_associated(chemistry)) call fail
  latents = int(sciml_step_latents(chemistry))
  allocate(latent(latents, cells), phys(4, cells), before(4, cells), dt(cells))
  dt = 1e4_c_float
  do cell = 1, cells
    do i = 1, latents
      latent(i, cell) = real(sin(pi * real(cell, real64) * real(i, real64) / cells), c_float)
    end do
  end do

  call conditions(0, before)
  do step = 0, steps - 1
    call conditions(step, phys)
    if (sciml_step_advance(chemistry, int(cells, c_int64_t), latent, phys, before, dt) /= 0) &
      call fail
    before = phys
  end do

  print "(i0, a, i0, a, f0.6)", cells, " cells, ", steps, " steps, sum of latents ", &
    sum(real(latent, real64))
  if (command_argument_count() > 1) then
    call get_command_argument(2, word)
    open(newunit=unit, file=trim(word), form="unformatted", access="stream", status="replace")
    write(unit) latent
    close(unit)
  end if
  call sciml_step_free(chemistry)

contains

  subroutine fail
    write(error_unit, "(2a)") "advance: ", last_error()
    error stop 1
  end subroutine

  ! A cloud that contracts; every cell starts from another density.
  subroutine conditions(step, phys)
    integer, intent(in) :: step
    real(c_float), intent(out) :: phys(:, :)
    real(real64) :: depth
    integer :: cell
    do cell = 1, cells
      depth = real(cell - 1, real64) / cells + 0.1_real64 * step
      phys(1, cell) = real(10.0_real64**(3 + 2 * depth), c_float)
      phys(2, cell) = real(10.0_real64**(-0.5_real64 * depth), c_float)
      phys(3, cell) = real(10.0_real64**(0.5_real64 + 0.5_real64 * depth), c_float)
      phys(4, cell) = real(10 + 20 / (1 + depth), c_float)
    end do
  end subroutine
end program
