from django.http import HttpRequest, HttpResponse, HttpResponseForbidden


def csrf_failed(request: HttpRequest, reason: str = "") -> HttpResponse:
    return HttpResponseForbidden("CSRF verification failed.")
