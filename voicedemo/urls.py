from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.templatetags.static import static
from django.urls import include, path

admin.site.site_header = admin.site.site_title = "voicedemo"
admin.site.index_title = "Calls"


def favicon(_: HttpRequest) -> HttpResponse:
    """For pages that name no icon, as the admin's: browsers ask for this path by themselves."""
    return redirect(static("favicon.svg"))


urlpatterns = [
    path("favicon.ico", favicon),
    path("admin/", admin.site.urls),
    path("", include("sessions_app.urls")),
]
